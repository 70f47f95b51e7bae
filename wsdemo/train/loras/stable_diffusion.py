"""One Stable Diffusion, finetuned again and again: a LoRA for each plan, scored by CLIP.

diffusers, peft and transformers are imported when a Studio is made, as only this needs them.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.generate.captions import PROMPTS
from wsdemo.runtime import choose_threads, default_device
from wsdemo.train.loras.making import needed

TARGETS = ("to_q", "to_v")
RANK = 4
DRAWN_AT_ONCE = 11
"""Pictures; with guidance the network sees twice as many."""


@dataclass(frozen=True)
class Settings:
    """What all LoRAs of a folder have in common."""

    pipeline: str
    """Stable Diffusion in diffusers' format: a folder, or a name on the Hub."""
    clip: str
    """CLIP in transformers' format: a folder, or a name on the Hub."""
    resolution: int = 512
    """Pixels a side."""
    images_per_prompt: int = 1
    steps: tuple[int, int] = (100, 200)
    """Fewest and most steps of finetuning."""
    denoising_steps: int = 30
    guidance: float = 7.5


@dataclass(frozen=True)
class Plan:
    """How one LoRA is made; drawn from its name."""

    name: str
    split: str
    prompt: str
    learning_rate: float
    steps: int
    batch: int
    seed: int

    @property
    def file(self) -> str:
        """Of the LoRA, relative to the collection's folder."""
        return f"{self.split}/{self.name}.safetensors"


def to_square(picture: bytes, side: int) -> Tensor:
    """An encoded picture → (3, side, side) float in [-1, 1], its middle square."""
    with Image.open(io.BytesIO(picture)) as image:
        square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1


class Studio:
    """Stable Diffusion and CLIP on one device; makes one LoRA after another.

    Args:
        settings: Of the collection.
        device: Default: what is there.
        threads: CPU threads; default: as runtime.choose_threads.

    Raises:
        WsdemoError: A package is missing, or the pipeline does not predict noise.
    """

    def __init__(
        self, settings: Settings, device: str | None = None, threads: int | None = None
    ) -> None:
        diffusers, transformers = needed("diffusers"), needed("transformers")
        for library in (diffusers.utils, transformers):
            library.logging.set_verbosity_error()
        choose_threads(threads)  # of this process: Ray's workers are processes of their own
        self.settings, self.device = settings, torch.device(device or default_device())
        # bfloat16 needs no scaling of the loss; factors stay in float32.
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        # The safety checker blacks pictures out, which would be scored as the LoRA's doing.
        self.pipe = diffusers.StableDiffusionPipeline.from_pretrained(
            settings.pipeline, use_safetensors=True,
            safety_checker=None, requires_safety_checker=False,
        ).to(self.device, self.dtype)  # fmt: skip
        self.pipe.set_progress_bar_config(disable=True)
        for part in (self.pipe.unet, self.pipe.vae, self.pipe.text_encoder):
            part.requires_grad_(False)
        self.noising = diffusers.DDPMScheduler.from_config(self.pipe.scheduler.config)
        if self.noising.config.prediction_type != "epsilon":
            raise WsdemoError(
                "Another kind of diffusion",
                f"{settings.pipeline} predicts {self.noising.config.prediction_type}, not noise.",
                "Give Stable Diffusion 1.",
            )
        clip = transformers.CLIPModel.from_pretrained(settings.clip, use_safetensors=True)
        self.clip = clip.eval().requires_grad_(False).to(self.device)
        self.read = transformers.CLIPProcessor.from_pretrained(settings.clip)

    def make(self, plan: Plan, pictures: Sequence[bytes]) -> tuple[dict[str, Tensor], float]:
        """Finetunes on encoded pictures and scores.

        Args:
            plan: The recipe.
            pictures: Bytes of JPEG or PNG files.

        Returns:
            The LoRA's tensors by diffusers' names, A (r, d_in) and B (d_out, r) float16; and its
            CLIP score.

        Raises:
            WsdemoError: The finetuning diverged.
        """
        config = needed("peft").LoraConfig(
            r=RANK, lora_alpha=RANK, target_modules=list(TARGETS), init_lora_weights="gaussian"
        )
        torch.manual_seed(plan.seed)  # peft draws its start from the global generator
        self.pipe.unet.add_adapter(config)
        try:
            self.finetune(plan, pictures)
            state = needed("peft").get_peft_model_state_dict(self.pipe.unet)
            tensors = {f"unet.{k}": v.half().cpu().contiguous() for k, v in state.items()}
            if not all(bool(v.isfinite().all()) for v in tensors.values()):
                raise WsdemoError("Diverged", f"{plan} has values that are not finite.")
            return tensors, self._score()
        finally:
            self.pipe.unet.delete_adapters("default")

    def finetune(self, plan: Plan, pictures: Sequence[bytes]) -> Tensor:
        """Trains the network's adapter to predict noise, ‖ε − ε_θ(z_t, t, prompt)‖² → min.

        Returns:
            (steps,) losses.
        """
        unet, vae = self.pipe.unet, self.pipe.vae
        # Drawn on the CPU, so that a plan means the same noise on every device.
        generator = torch.Generator().manual_seed(plan.seed)
        z = self._latents(pictures, generator)
        text = self.pipe.encode_prompt(plan.prompt, self.device, 1, False)[0]
        parameters = [p for p in unet.parameters() if p.requires_grad]
        for p in parameters:
            p.data = p.data.float()
        optimizer, losses = torch.optim.AdamW(parameters, lr=plan.learning_rate), []
        unet.train()
        for _ in range(plan.steps):
            x = z[torch.randint(len(z), (plan.batch,), generator=generator)].to(self.device)
            noise = torch.randn(x.shape, generator=generator).to(self.device)
            t = torch.randint(len(self.noising), (plan.batch,), generator=generator)
            noisy = self.noising.add_noise(x, noise, t.to(self.device)).to(vae.dtype)
            with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
                guess = unet(noisy, t.to(self.device), text.expand(plan.batch, -1, -1)).sample
            loss = F.mse_loss(guess.float(), noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        unet.eval()
        return torch.stack(losses).cpu()

    @torch.no_grad()
    def _latents(self, pictures: Sequence[bytes], generator: torch.Generator) -> Tensor:
        """(n, 4, s / 8, s / 8) float32 on the CPU, one draw a picture."""
        vae, rows = self.pipe.vae, []
        for picture in pictures:
            square = to_square(picture, self.settings.resolution)[None]
            moments = vae.encode(square.to(self.device, vae.dtype)).latent_dist
            mean, std = moments.mean.float().cpu(), moments.std.float().cpu()
            rows.append(mean + std * torch.randn(mean.shape, generator=generator))
        return torch.cat(rows) * vae.config.scaling_factor

    @torch.no_grad()
    def _score(self) -> float:
        """100 · cos of CLIP's embeddings of picture and prompt, mean over PROMPTS."""
        settings, scores = self.settings, []
        prompts = [p for p in PROMPTS for _ in range(settings.images_per_prompt)]
        for low in range(0, len(prompts), DRAWN_AT_ONCE):
            part = prompts[low : low + DRAWN_AT_ONCE]
            noise = [torch.Generator().manual_seed(low + i) for i in range(len(part))]
            images = self.pipe(
                part, settings.resolution, settings.resolution, settings.denoising_steps,
                guidance_scale=settings.guidance, generator=noise,
            ).images  # fmt: skip
            seen = self.read(text=part, images=images, return_tensors="pt", padding=True)
            out = self.clip(**seen.to(self.device))
            scores.append(F.cosine_similarity(out.image_embeds, out.text_embeds))
        return 100 * float(torch.cat(scores).mean())


def write_toy_models(folder: Path) -> None:
    """Writes a random Stable Diffusion of a few thousand weights to FOLDER/pipeline, and such a
    CLIP to FOLDER/clip, in the formats of the real ones."""
    diffusers, transformers = needed("diffusers"), needed("transformers")
    torch.manual_seed(0)
    words = folder / "words"
    words.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    ends = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = [*letters, *(c + "</w>" for c in letters), *ends]
    write_whole(words / "vocab.json", json.dumps({w: i for i, w in enumerate(vocabulary)}))
    write_whole(words / "merges.txt", "#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(words / "vocab.json"), str(words / "merges.txt"), model_max_length=77
    )
    text = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=16, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8, projection_dim=16,
    )  # fmt: skip
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16
        )
    )
    side = {"height": 16, "width": 16}
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=side)
    clip.save_pretrained(folder / "clip")
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder / "clip")
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=16,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
        steps_offset=1,
    )  # fmt: skip
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=transformers.CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "pipeline")  # fmt: skip
