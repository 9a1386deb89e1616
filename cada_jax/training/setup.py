"""What a run computes with: the network, the optimizer and its schedule."""

import dataclasses

import optax
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.network import Network, abstract_network
from cada_jax.training import optimizer


@dataclasses.dataclass(frozen=True)
class TrainSetup:
    """All that a training step is compiled from.

    Attributes:
      network: its parameters are shapes; the state holds the numbers.
      tx: the optimizer.
      schedule: step -> learning rate.
      steps_per_epoch: whole batches of the training split.
    """

    network: Network
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    steps_per_epoch: int

    @property
    def config(self) -> ConfigDict:
        """The full config."""
        return self.network.config

    @property
    def total_steps(self) -> int:
        """How many updates the run will have done at its end."""
        return optimizer.total_steps(self.config, self.steps_per_epoch)


def make_setup(config: ConfigDict, steps_per_epoch: int, devices: list | None = None) -> TrainSetup:
    """Builds mesh, model and optimizer.

    Args:
      config: full config, valid by `cada_jax.config.validate`.
      devices: to use; all there are if None.

    Raises:
      UsageError: the configuration does not fit the devices or the data.
    """
    network = abstract_network(config, devices)
    train = config.train
    try:
        mesh_lib.check_batch(network.mesh, train.batch_size, "config.train.batch_size")
        mesh_lib.check_accumulation(network.mesh, train.batch_size, train.accumulation)
        tx = optimizer.make_optimizer(config, steps_per_epoch)
        schedule = optimizer.make_schedule(config, steps_per_epoch)
    except ValueError as e:  # these check what they read of the config, and name the field
        raise UsageError(str(e)) from e
    return TrainSetup(network, tx, schedule, steps_per_epoch)
