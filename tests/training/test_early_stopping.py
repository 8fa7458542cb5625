from triform.training.early_stopping import Best


def test_only_a_fall_beyond_min_delta_improves():
    best = Best().after(1.0, 10, min_delta=0.1)
    assert best == Best(1.0, 10, 0)
    assert best.after(0.95, 20, min_delta=0.1) == Best(1.0, 10, 1)
    assert best.after(0.85, 20, min_delta=0.1) == Best(0.85, 20, 0)


def test_where_higher_is_better_only_a_rise_improves():
    best = Best().after(0.5, 10, min_delta=0.1, higher_is_better=True)
    assert best.after(0.55, 20, min_delta=0.1, higher_is_better=True) == Best(0.5, 10, 1)
    assert best.after(0.4, 20, min_delta=0.1, higher_is_better=True) == Best(0.5, 10, 1)
    assert best.after(0.65, 20, min_delta=0.1, higher_is_better=True) == Best(0.65, 20, 0)


def test_patience_counts_validations_and_zero_means_never():
    best = Best(1.0, 10, 3)
    assert best.exhausted(3)
    assert not best.exhausted(4)
    assert not best.exhausted(0)
