from experiments.cli import main
from extensions.demo.command import demo

main(more=(demo,))
