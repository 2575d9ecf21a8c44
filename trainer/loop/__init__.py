"""The training loop: Lightning over a method, with validation by the distance that ranks.

    train(load_recipe("glimpse-baseline"), Path("checkpoints/mine"), data=["generated"])

`batches` gives the batches from any step on, `module` is the method as Lightning trains it, `optimiser` its learning
rates, `validation` the figures on held-out identities, `keeper` what is written and `state` how a killed run goes on;
`runner` puts them together.
"""

from trainer.loop.failure import TrainingError
from trainer.loop.memory import keep_freed_memory
from trainer.loop.runner import fit, train
from trainer.loop.state import unfinished
from trainer.loop.validation import features_of

__all__ = ["TrainingError", "features_of", "fit", "keep_freed_memory", "train", "unfinished"]
