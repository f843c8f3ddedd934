"""The closed forms with sliders: ``.venv/bin/marimo run docs/closed_forms.py``.

Every number comes from a verified derivation of `analysis`; nothing is written here a second time.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Closed forms of bilevel maximum likelihood")

with app.setup:
    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    from analysis import bounded, categorical, estimators, gaussian


@app.cell
def _():
    mo.md("""
    # Closed forms of bilevel maximum likelihood

    A model is trained by policy gradient on a reward; the reward is chosen so that the data are
    most likely. In the Gaussian setting both levels have closed forms. Move the sliders: the
    formulas are those that `analysis` has derived and verified.
    """)


@app.cell
def _():
    lam = mo.ui.slider(0.1, 2.0, step=0.1, value=0.5, label="entropy weight λ")
    variance = mo.ui.slider(0.1, 3.0, step=0.1, value=1.0, label="variance of the data Σ")
    weight = mo.ui.slider(0.05, 3.0, step=0.05, value=1.0, label="reward weight U")
    mo.vstack([mo.md("## Both levels, n = 1"), lam, variance, weight])
    return lam, variance, weight


@app.cell
def _(lam, variance, weight):
    given = {"lam": lam.value, "Sigma": variance.value}
    objective = gaussian.outer.objective("full", n=1)
    best_weight = gaussian.outer.optimal_reward("full", n=1).at(**given)
    trained = gaussian.inner.solution("full", n=1).at(U=weight.value, lam=lam.value)
    slope = gaussian.outer.hypergradient("full", n=1).at(U=weight.value, **given)
    lost = objective.at(U=best_weight, **given) - objective.at(U=weight.value, **given)
    return best_weight, given, lost, objective, slope, trained


@app.cell
def _(best_weight, given, lost, objective, slope, trained, weight):
    def draw_outer():
        grid = np.linspace(0.05, 3.0, 120)
        figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
        ax.plot(grid, [objective.at(U=U, **given) for U in grid], color="C0")
        ax.axvline(best_weight, color="black", lw=0.8, ls="--", label="$U^\\star$")
        here = objective.at(U=weight.value, **given)
        ax.axline((weight.value, here), slope=slope, color="C1", lw=1, label="hypergradient")
        ax.plot(weight.value, here, "o", color="C1")
        ax.set(xlim=(0, 3), ylim=(here - 1.5, here + 1.5), xlabel="$U$", ylabel="$F(U)$, nats")
        ax.legend()
        return figure

    mo.vstack(
        [
            gaussian.outer.hypergradient("full", n=None),
            draw_outer(),
            mo.md(
                f"The inner level trains a policy of variance **{trained:.3f}**. "
                f"The hypergradient is **{slope:.3f}**, the best weight **{best_weight:.3f}**; "
                f"this one loses **{lost:.3f} nats**."
            ),
        ]
    )


@app.cell
def _():
    correlation = mo.ui.slider(-0.95, 0.95, step=0.05, value=0.8, label="correlation of the data")
    mo.vstack([mo.md("## A diagonal policy trained with the reward of a full one"), correlation])
    return (correlation,)


@app.cell
def _(correlation):
    Sigma = np.array([[1.0, correlation.value], [correlation.value, 1.0]])
    shrunk = gaussian.mean_field.shrinkage(n=2).at(Sigma=Sigma)
    price = gaussian.mean_field.cost(n=2).at(Sigma=Sigma)
    return Sigma, price, shrunk


@app.cell
def _(Sigma, price, shrunk):
    def draw_ellipses():
        turn = np.linspace(0, 2 * np.pi, 200)
        circle = 2 * np.stack([np.cos(turn), np.sin(turn)])
        figure, ax = plt.subplots(figsize=(3.5, 3.5), layout="constrained")
        for covariance, label in ((Sigma, "data"), (shrunk, "policy, $U=\\frac{λ}{2}Σ^{-1}$")):
            ax.plot(*(np.linalg.cholesky(covariance) @ circle), label=label)
        ax.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), title="two standard deviations")
        ax.legend(loc="upper left")
        return figure

    mo.vstack(
        [
            gaussian.mean_field.cost(n=None),
            draw_ellipses(),
            mo.md(
                f"Its variances shrink to **{shrunk[0, 0]:.3f}**, which costs **{price:.3f} nats** "
                "against the best diagonal policy."
            ),
        ]
    )


@app.cell
def _():
    share = mo.ui.slider(0.51, 0.99, step=0.01, value=0.6, label="share of the first class π")
    mo.vstack([mo.md("## Two classes: the exact scalar reward and the published β*"), share])
    return (share,)


@app.cell
def _(share):
    pi = np.array([share.value, 1 - share.value])
    exact = categorical.scalar.binary().at(pi=pi, lam=1.0)
    heuristic = categorical.scalar.heuristic_scale(2).at(pi=pi, lam=1.0)
    law = categorical.inner.scalar_solution(2)
    p_exact, p_heuristic = (float(law.at(pi=pi, u=u, lam=1.0)[0]) for u in (exact, heuristic))
    return exact, heuristic, p_exact, p_heuristic


@app.cell
def _(exact, heuristic, p_exact, p_heuristic, share):
    mo.vstack(
        [
            categorical.scalar.binary(),
            mo.md(f"""
            | | reward weight, λ = 1 | the policy's share of the first class |
            |---|---|---|
            | data | | {share.value:.2f} |
            | exact u* | {exact:.3f} | {p_exact:.3f} |
            | published β* | {heuristic:.3f} | {p_heuristic:.3f} |
            """),
        ]
    )


@app.cell
def _():
    omega = mo.ui.slider(0.5, 10.0, step=0.5, value=4.0, label="width of the reward ω")
    share_of_critical = mo.ui.slider(0.05, 0.95, step=0.05, value=0.5, label="λ as a share of λ_c")
    mo.vstack([mo.md("## A bounded reward, n = 2, data of variance 1"), omega, share_of_critical])
    return omega, share_of_critical


@app.cell
def _(omega, share_of_critical):
    critical = bounded.inner.critical_weight(2).at(omega=omega.value, beta=1.0)
    local_maximum = bounded.inner.inner_variance().at(
        omega=omega.value, beta=1.0, q=share_of_critical.value
    )
    return critical, local_maximum


@app.cell
def _(critical, local_maximum, omega, share_of_critical):
    mo.vstack(
        [
            bounded.inner.inner_variance(),
            mo.md(
                f"Above λ_c = **{critical:.3f}** the policy only spreads, for ω = {omega.value}. "
                f"At λ = **{share_of_critical.value * critical:.3f}** it rests at variance "
                f"**{local_maximum:.3f}**; the data have 1."
            ),
        ]
    )


@app.cell
def _():
    generations = mo.ui.slider(2, 8, step=1, value=5, label="generations per data point M")
    mo.vstack([mo.md("## Subtracting the minimum of a group, as published, n = 2"), generations])
    return (generations,)


@app.cell
def _(generations):
    biased = estimators.groups.minimum_planar(generations.value).at(u=0.5, lam=1.0) ** 0.5
    mo.vstack(
        [
            estimators.groups.minimum_planar(generations.value),
            mo.md(f"The policy's standard deviation is **{biased:.3f}** in place of 1."),
        ]
    )
    return (biased,)


if __name__ == "__main__":
    app.run()
