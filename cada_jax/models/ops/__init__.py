"""What platforms do differently, behind one function: `ops_for(mesh)`.

`plain` states every operation as its formula. It runs everywhere, and the others are tested against
it. `tpu` and `gpu` replace what their platform computes faster in another form. The numbers stay
the same, the masks of dropout too.
"""

from jax.sharding import AbstractMesh, Mesh

from cada_jax.distributed.mesh import current_mesh
from cada_jax.models.ops import gpu, plain, tpu
from cada_jax.models.ops.plain import Ops


def ops_for(mesh: Mesh | AbstractMesh | None) -> Ops:
    """The operations for the devices of a mesh, which need not be here; None: plain ones."""
    if mesh is None:
        return plain.OPS
    abstract = mesh.abstract_mesh if isinstance(mesh, Mesh) else mesh
    platform = abstract.abstract_device.platform
    if platform in ("gpu", "cuda"):
        return gpu.ops_of(abstract)
    return tpu.OPS if platform == "tpu" else plain.OPS


def current_ops() -> Ops:
    """`ops_for` the mesh of JAX's context, which the program under way is compiled for."""
    return ops_for(current_mesh())
