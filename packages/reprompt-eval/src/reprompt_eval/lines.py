"""One comparison as lines of a name and what there is to say, for the terminal and for the report."""

from .figures import between, level, mean, number, p_value, percent, percents, signed, whole
from .mixed_model import MixedModel
from .paired import Paired, Test

__all__ = ["lines_of"]


def lines_of(p: Paired, names: tuple[str, str], *, mixed_model: MixedModel | None = None) -> list[tuple[str, str]]:
    """Every figure of a comparison, each with what it stands on."""
    first, second = p.first, p.second
    rows = [
        (names[0], f"{mean(first)}, SD {_or_none(first.sd)}"),
        (names[1], f"{mean(second)}, SD {_or_none(second.sd)}"),
        ("difference", f"{whole(p.difference, p.ci, p.n, sign=True)}, SD {_or_none(p.sd)}"),
    ]
    if p.ci and p.ci_percentile and p.ci_t:
        others = f"by percentiles {between(p.ci_percentile, sign=True)}; by t {between(p.ci_t, sign=True)}"
        rows.append(("its interval", f"{p.ci.method} over prompts; {others}"))
    if p.dz is not None and p.dz_ci:
        rows.append(("dz", whole(p.dz, p.dz_ci, p.n, 3)))
    rows.append(("better", _wins(p)))
    if p.t:
        rows.append(("paired t-test", f"t({p.t.df}) = {signed(p.t.statistic, 2)}, {_tested(p.t)}"))
    if p.wilcoxon:
        rows.append(("Wilcoxon", f"W = {p.wilcoxon.statistic:g}, {_tested(p.wilcoxon)}, n = {p.n}"))
    if e := p.equivalence:
        found = "smaller than the bound" if e.equivalent else "not shown to be smaller than the bound"
        interval = f"{level(e.ci)} {between(e.ci, sign=True)}"
        rows.append(("equivalence", f"{found} of {number(e.bound)}: {p_value(e.p)}, {interval}, n = {p.n}"))
    if mixed_model:
        rows.append(("mixed model", _mixed(mixed_model)))
    if p.r is not None and p.r_ci:
        rows.append(("correlation", f"r = {whole(p.r, p.r_ci, p.n, 3)}"))
    if p.detectable is not None:
        rows.append(("detectable", f"{number(p.detectable)}: what {p.n} prompts with this SD find 8 times in 10"))
    rows += [("note", note) for note in p.notes]
    return rows


def _or_none(sd: float | None) -> str:
    return "none" if sd is None else number(sd)


def _wins(p: Paired) -> str:
    w = p.wins
    counted = f"{w.better} of {p.n} prompts, {w.worse} worse, {w.ties} the same"
    if w.rate is None or w.ci is None:
        return counted
    of = f"{w.better} of {w.better + w.worse} that differ: " if w.ties else ""
    return f"{counted} ({of}{percent(w.rate)}, {level(w.ci)} {percents(w.ci)})"


def _tested(test: Test) -> str:
    return p_value(test.p) if test.p_holm is None else f"{p_value(test.p)} (Holm: {p_value(test.p_holm)})"


def _mixed(m: MixedModel) -> str:
    notes = f"; {'; '.join(m.notes)}" if m.notes else ""
    if m.difference is None:
        return f"no figure of {m.rows} scores, n = {m.n}{notes}"
    random = "random intercept and arm of each prompt" if m.arm_varies else "random intercept of each prompt"
    return f"{whole(m.difference, m.ci, m.n, sign=True)}, {p_value(m.p)}, {m.rows} scores, {random}{notes}"
