"""The tabs of the page, one file each: `train.py` and `chat.py`. Each has a function `build`."""
