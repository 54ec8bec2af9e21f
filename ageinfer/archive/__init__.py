"""Archives: many pictures and films become one Parquet data set, on one machine or on many (``ageinfer archive``).

The items of the sources are listed once and split into shards (`plan`). Workers take shards, one after the other, and
write one file each (`shard`, `engine`). A file appears whole or not at all, so what a run has left undone is what has
no file (`ledger`).
"""
