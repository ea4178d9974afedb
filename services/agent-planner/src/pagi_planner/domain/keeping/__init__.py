"""The runs of this process: begun, claimed, taken up, decided on, cancelled."""
