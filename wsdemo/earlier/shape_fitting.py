"""``wsdemo.shape_fitting``: now ``wsdemo.domains.shape_fitting``."""

from wsdemo.domains.shape_fitting import MeshInput, load_mesh, overlay, reference_surface

__all__ = ["MeshInput", "load_mesh", "overlay", "reference_surface"]
