"""``wsdemo.shape_pipelines``: now ``wsdemo.domains.shapes``, ``.models`` and ``.instances``."""

from collections.abc import Mapping

from torch import Tensor

from wsdemo.domains.instances import make_instance
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import domain_named
from wsdemo.domains.shapes import decode_shape, field_of, pose_facts, pose_of
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.instance import Instance
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.media.meshes import Pose

__all__ = ["Pose", "decode_shape", "field_of", "pose_of", "shape_diffusion", "shape_instance"]


def shape_diffusion(name: str) -> WeightDiffusion:
    """The weight diffusion model of a set of shapes."""
    return diffusion_of(domain_named(name))


def shape_instance(
    name: str, adapter: Adapter, weights: Tensor, measured: Mapping[str, float], pose: Pose
) -> Instance:
    """Wraps weights (D,) as an instance of a set's base, that stood at a pose."""
    return make_instance(domain_named(name), adapter, weights, {**measured, **pose_facts(pose)})
