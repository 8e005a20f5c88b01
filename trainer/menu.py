"""What a config can name in this room: trainers. Read by parse_config.py."""

from utils.config_check import Section
from utils.config_table import Table

SECTIONS = {
    "trainer": Section(
        Table("a trainer", ("trainer",), "base.base_trainer:BaseTrainer", own_packages=("trainer",)),
        given=frozenset({"learner", "loaders", "options", "context"}),
    ),
}
