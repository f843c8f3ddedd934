"""The paper as executable text: experiments, the gate before figures, the store of results."""
