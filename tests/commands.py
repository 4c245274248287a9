"""What tests of commands share."""


def told(result, *parts):
    """One line on standard error, nothing on standard output, exit code 1."""
    code, out, err = result
    assert code == 1, err
    assert out == ""
    assert err.startswith("earthgpt: ") and err.count("\n") == 1 and err.endswith("\n"), err
    for part in parts:
        assert part in err
    return True
