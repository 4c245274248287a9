"""EarthGPT: ask optical, SAR and infrared images of the Earth questions, and get values back."""
