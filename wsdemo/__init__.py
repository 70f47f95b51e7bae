"""wsdemo: neural-network weights as data.

Two papers meet here. *Weight Space Representation Learning with Neural Fields*
(Paper A) turns a picture or a shape into a small set of adapter weights on one
shared base field, and generates such weights with a diffusion model.
*Learning on LoRAs* (Paper B) reads the adapters of finetuned models.
"""

__version__ = "0.1.0"
__path__ += [f"{__path__[0]}/earlier"]  # modules that have moved, by their names of before
