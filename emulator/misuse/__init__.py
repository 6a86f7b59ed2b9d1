"""What software did wrong with DMA: verdicts that name the rule and the events that make the case.

    dma_book           the DMA API, call by call: who mapped what, and who takes it back how
    invalidation_book  whether an unmapped range was invalidated before it was used again
    access_book        what devices did with ranges that are not theirs, or no longer
    sharing            pages that more than one owner can reach

A verdict is about the recorded software. It needs no replay, and does not depend on what a replayed machine could do.
"""

__all__: list[str] = []
