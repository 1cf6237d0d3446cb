"""The engine alone: a file, thirty seconds at a time, through pocketsphinx as its documentation shows. No code of ours.

python benchmarks/bare_loop.py speech.wav
"""

import json
import sys
import time

import soundfile
from pocketsphinx import Decoder

started = time.perf_counter()
decoder = Decoder(samprate=16000, loglevel="ERROR")
words = 0
with soundfile.SoundFile(sys.argv[1]) as file:
    for block in file.blocks(blocksize=30 * 16000, dtype="int16"):
        decoder.start_utt()
        decoder.process_raw(block.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        words += len(hypothesis.hypstr.split()) if hypothesis else 0
print(json.dumps({"seconds": time.perf_counter() - started, "words": words}))
