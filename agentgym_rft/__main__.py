"""`python -m agentgym_rft`: the command line, for launchers that start modules, such as torchrun."""

from agentgym_rft.cli.main import main

if __name__ == "__main__":
    main()
