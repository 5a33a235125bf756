"""An exported file in fewer bits: int8 by calibration pictures, fp16; measured before written."""
