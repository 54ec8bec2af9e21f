"""What an age model does on this machine and on these pictures, as evidence that is bound to all three.

It needs no more than the runtime does, so it is made where the model is used: `ageinfer.proving.evidence` makes it, and
`ageinfer.proving.comparing` compares two such pieces.
"""
