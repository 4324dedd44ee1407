"""A model of which every process keeps a part (fully sharded data parallelism, PyTorch's `fully_shard`).

The LLM's decoder layers are sharded, whether they are trained or frozen: they are nearly all of a model, and with them
go their gradients and the optimiser's state. A layer is put together while it runs. Tower, projector, embeddings and
output layer are everywhere.
"""

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from unsee.mllm.families import Mllm
from unsee.parallel import is_share, whole, world
from unsee.sections import Sharding


def shard(mllm: Mllm, sharding: Sharding) -> None:
    """Leave this process its share of the model, if that is wanted and there are others. Parameters of the LLM become
    new ones under their old names: take them from the model hereafter. Their gradients are sums over processes."""
    if sharding == "none" or world() == 1:
        return
    mesh = init_device_mesh(mllm.device.type, (world(),))
    for layer in mllm.language_model.layers:
        before = list(layer.parameters())
        sharded = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # float32 is else summed as NCCL alone can
        sharded.unshard()  # makes its buffers; those made in inference mode would be of no use outside of it
        sharded.reshard()
        for parameter in before:  # whoever still holds one, by its name, holds no memory
            parameter.untyped_storage().resize_(0)


def gather(mllm: Mllm) -> None:
    """Make the model whole again, to be edited and saved; a model that was sharded does not run any more."""
    for module in mllm.model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if is_share(parameter):
                module.register_parameter(name, nn.Parameter(whole(parameter.detach()), parameter.requires_grad))
