"""The errors a user may meet: each carries one sentence that says what, got, want and where."""


class InputError(ValueError):
    """Something the user gave (a file, a table, a parameter) cannot be used; the message is one clear sentence."""


class ExposureError(InputError):
    """One exposure is unusable; the batch goes on and the exposure is listed in `failed.star`.

    `code` is a stable reason such as TRUNCATED, FRAMES, SHAPE, GAIN_SHAPE, ZERO, NONFINITE, CODEC, HEADER.
    """

    def __init__(self, code: str, sentence: str):
        super().__init__(sentence)
        self.code = code
