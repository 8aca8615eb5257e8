"""The numbers that steer a fit, as values with defaults: see `Settings`.

Each field is explained, with the reason or the source of its default where there is one. Lengths in
posterior standard deviations are written "sds"; "numbers" counts the entries of an array.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class OptimizationSettings:
    """Restarts and natural-gradient steps, and starts by k-means.

    k-means is where a run starts from given means, or under a stick-breaking prior; all other
    starts are those of `StartSettings`.

    Attributes
    ----------
    restarts : int
        Largest number of runs, each from a distinct optimum of the search for starts; under a
        stick-breaking prior, their exact number. With `init`, or a `batch_size` below N, there is
        one run by default.
    full_batch_rows, full_batch_numbers : int
        Up to so many rows, and rows x components x features, a step reads all rows: it then costs
        about what a step on a few hundred rows costs, and has no noise from the choice of rows
        (`benchmarks/scaling.py --part rows`).
    subsample_rows, subsample_rows_per_component : int
        Rows that the first phase of a larger fit reads: the larger of the first number and K times
        the second, and of many components as many as the search for starts reads, up to
        `full_batch_rows`. The optimum of n rows differs from that of all N by about
        sqrt(N / n - 1) sds.
    draws_per_step : int
        Draws that estimate a gradient; half of them are the antithetic partners of the others.
    subsample_draws_per_step : int
        The same on a subsample, whose optimum is only a starting point: one draw and its partner.
    shortest_block, longest_block : int
        Steps of one call of the compiled loop, rounded to whole epochs. Longer blocks delay
        convergence checks, reports and Ctrl-C; shorter ones spend more time between calls.
    overshooting_blocks : int
        First blocks, in which a location may move by as much as 0.3 sds of its component's rows.
    lost_nats, lost_noise : float
        A run begins again, without these long steps, if after them it is lower than its start by
        more than the sum of `lost_nats` and `lost_noise` standard deviations of a step's estimate
        of the elbo.
    full_rate_blocks : int
        Blocks after which the step size falls as 1 / time (Robbins and Monro 1951): a run that has
        not converged by then is held up by noise, or by a posterior far from the surrogate's
        family.
    tolerance : float
        A run has converged when the two halves of its averaged iterates agree to so many sds, and
        to so much in every log sd. A tenth of what `agreement` allows, so that two converged runs
        at one optimum are recognised as such.
    subsample_tolerance : float
        The same, at least, on a subsample.
    fewest_settled_blocks, settled_gain, settled_parameters : int, float, int
        A run on all rows has also settled, after so many blocks, when the elbo at the mean of the
        later half of its averaged iterates differs from that of the earlier half by less than so
        many nats. With more parameters than the last number the limit grows as their root, as the
        noise of this difference does. Where the rows hardly inform a direction, its noise takes ten
        thousand steps to average out, for a few hundredths of a nat.
    polishing_blocks, averaged_blocks : int
        A settled run goes on, for at most the first number of blocks, by accelerated blocks that
        repeat the same draws, until these have converged; the second number of blocks, with draws
        of their own, is then averaged.
    comparison_draws : int
        Draws by which two elbos are compared. They are the same for both, so that the difference
        has an error of some hundredths of a nat.
    valley : float
        Two runs are at one optimum if the elbo, on the straight way between them, is nowhere lower
        than at both ends by more than so many nats.
    step_rounding : float
        Largest rounding error per row (nats) tolerated in a training step. Its sign varies between
        draws, so most of it averages out.
    rounding_margin : float
        Factor by which `step_rounding` is reduced at the start: precisions may grow from there, and
        changing to the slower likelihood during a run costs a compilation.
    rounding_check_blocks : int
        Numerical precision is checked again every so many blocks: a run that has lost it may never
        converge.
    agreement : float
        Two runs within so many sds are at the same optimum: ten times `tolerance`, and a small part
        of the distance between two optima.
    rival_nats : float
        A mode whose elbo is lower than the best by more holds less than a twentieth of its mass.
    first_start_seedings : int
        k-means++ seedings of the first start by k-means that is given neither means nor a number of
        clusters, of which the tightest clustering is kept. `fit` makes no such start; benchmarks
        and tests do.
    extra_clusters : tuple of int
        Under a stick-breaking prior, restarts begin in turn with so many clusters more than BIC
        selects: the optimiser can empty a superfluous component, but not split one.
    clustering_rows : int
        Rows that k-means reads: enough for a start, whatever N.
    lloyd_iterations : int
        Limit of k-means iterations; what they leave, the optimiser finishes.
    bic_seedings : int
        Seedings of k-means++ for each number of clusters that BIC compares. More than a start
        takes, because one poor clustering would change the number that BIC selects.
    bic_patience : int
        Larger numbers of clusters that are tried after the one with the best BIC, which need not be
        the last local optimum.
    """

    restarts: int = 4
    full_batch_rows: int = 20_000
    full_batch_numbers: int = 2**18
    subsample_rows: int = 4_096
    subsample_rows_per_component: int = 200
    draws_per_step: int = 8
    subsample_draws_per_step: int = 2
    shortest_block: int = 20
    longest_block: int = 4_000
    overshooting_blocks: int = 3
    lost_nats: float = 10.0
    lost_noise: float = 5.0
    full_rate_blocks: int = 12
    tolerance: float = 0.05
    subsample_tolerance: float = 0.15
    fewest_settled_blocks: int = 12
    settled_gain: float = 0.05
    settled_parameters: int = 25
    polishing_blocks: int = 24
    averaged_blocks: int = 8
    comparison_draws: int = 400
    valley: float = 0.1
    step_rounding: float = 1e-3
    rounding_margin: float = 4.0
    rounding_check_blocks: int = 64
    agreement: float = 0.5
    rival_nats: float = 3.0
    first_start_seedings: int = 8
    extra_clusters: tuple[int, ...] = (0, 1)
    clustering_rows: int = 10_000
    lloyd_iterations: int = 25
    bic_seedings: int = 16
    bic_patience: int = 3


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How long starts are run, and how many go on: one set for few components, one for many.

    Attributes
    ----------
    rows_per_component, rows_per_component_and_feature : int
        Rows that EM reads at least, and where they are affordable. The best optimum of fewer rows
        may be far from that of all: with 50 clusters that overlap in 10 features, that of 100 rows
        for each component is another one.
    kmeans_starts, random_row_starts : int
        Starts of each kind in each of two metrics.
    random_partition_starts : int
        Starts from labels at random.
    short_iterations, plain_iterations : int
        Iterations of all starts, and plain ones after them, before they are compared.
    leaves_row_out : bool
        Whether the short iterations take each row's own share out, where that is available.
    runs_to_converge : int
        Starts that go on to convergence.
    run_change, most_run_iterations : float, int
        They have converged when the bound rises by less in an iteration (nats), or at the limit.
    tries_every_swap : bool
        Whether all K (K - 1) swaps are tried, or those that estimates rank first.
    swap_iterations : int
        The same as `short_iterations`, after a swap.
    swaps_to_converge : int
        Best swaps of a round that go on.
    swap_change : float
        Swaps are compared when their bounds rise by less than so many nats in an iteration.
    most_swap_iterations : int
        Limit of these iterations.
    most_swap_rounds : int
        Rounds in which a swap has raised the bound.
    most_searches, agreeing_searches : int
        Sets of starts with their swaps. No more are made once so many as the second number have
        ended at the same best optimum, which is the evidence that it is the best; two agree by
        chance where several optima are close. With many components two searches hardly ever end
        alike, because there are many optima within a few nats: the second only adds a chance, for
        its time.
    agreeing_starts : int
        Nor once so many starts of these searches have ended there.
    """

    rows_per_component: int
    rows_per_component_and_feature: int
    kmeans_starts: int
    random_row_starts: int
    random_partition_starts: int
    short_iterations: int
    plain_iterations: int
    leaves_row_out: bool
    runs_to_converge: int
    run_change: float
    most_run_iterations: int
    tries_every_swap: bool
    swap_iterations: int
    swaps_to_converge: int
    swap_change: float
    most_swap_iterations: int
    most_swap_rounds: int
    most_searches: int
    agreeing_searches: int
    agreeing_starts: int


# With few components good starts decide; with many no start is good in all places, and swaps do.
FEW_COMPONENTS = StageSettings(
    rows_per_component=0,
    rows_per_component_and_feature=0,
    kmeans_starts=3,
    random_row_starts=3,
    random_partition_starts=2,
    short_iterations=20,
    plain_iterations=3,
    leaves_row_out=True,
    runs_to_converge=4,
    run_change=3e-3,
    most_run_iterations=300,
    tries_every_swap=True,
    swap_iterations=10,
    swaps_to_converge=3,
    swap_change=0.01,
    most_swap_iterations=300,
    most_swap_rounds=4,
    most_searches=4,
    agreeing_searches=3,
    agreeing_starts=15,
)
MANY_COMPONENTS = StageSettings(
    rows_per_component=200,
    rows_per_component_and_feature=40,
    kmeans_starts=2,
    random_row_starts=0,
    random_partition_starts=0,
    short_iterations=2,
    plain_iterations=2,
    leaves_row_out=False,
    runs_to_converge=1,
    run_change=0.3,
    most_run_iterations=25,
    tries_every_swap=False,
    swap_iterations=3,
    swaps_to_converge=1,
    swap_change=0.3,
    most_swap_iterations=25,
    most_swap_rounds=25,
    most_searches=2,
    agreeing_searches=2,
    agreeing_starts=15,
)


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """The search for starts by variational EM, before any run of the optimiser.

    Attributes
    ----------
    few, many : StageSettings
        Used up to `most_of_few` components, and beyond.
    most_of_few : int
        Largest number of components that counts as few.
    rows : int
        Rows that EM reads, and more of them with many components: see
        `StageSettings.rows_per_component`. Its only aim is to tell optima apart, which more rows do
        better, and take longer for.
    most_numbers : int
        Rows x components x features up to which it reads more.
    kmeans_iterations : int
        Limit of k-means iterations.
    ward_rows : int
        Rows of Ward's method, whose cost and memory are quadratic: 0.04 s.
    fewest_equal, least_equal_share, most_equal_values : int, float, int
        Rows, and their share of all, from which on a value that they have in common gets starts
        with a component of its own; and the number of such values.
    excess_of_equal : float
        Times that such a value is more frequent than its neighbours.
    same_short_run : float
        Starts whose bounds differ by less (nats) after the short runs are taken for one.
    least_change, most_iterations : float, int
        The best optimum has converged when its bound rises by less in an iteration (nats), or at
        the limit.
    same_optimum : float
        Converged runs whose bounds differ by less are at one optimum: what EM leaves of a slow
        climb, and far less than what tells most optima apart.
    same_sizes : float
        Such runs are two optima if more than this fraction of the rows would have to move for their
        components to have the same sizes: two ways to use a component to spare may have equal
        bounds.
    swap_gain : float
        Nats by which a swap has to raise the bound.
    fewest_swaps : int
        Swaps of a round where there are few pairs: each is tried with other random cuts.
    most_swaps : int
        Swaps tried one by one in a round, where there are too many pairs.
    candidate_nats : float
        Optima whose bounds are lower than the best by more are not refined: the bound differs from
        the elbo of the optimiser, which sums labels out, by a few nats.
    """

    few: StageSettings = FEW_COMPONENTS
    many: StageSettings = MANY_COMPONENTS
    most_of_few: int = 8
    rows: int = 4_096
    most_numbers: int = 2**24
    kmeans_iterations: int = 25
    ward_rows: int = 1_000
    fewest_equal: int = 5
    least_equal_share: float = 0.03
    most_equal_values: int = 3
    excess_of_equal: float = 3.0
    same_short_run: float = 0.02
    least_change: float = 3e-3
    most_iterations: int = 300
    same_optimum: float = 0.3
    same_sizes: float = 0.1
    swap_gain: float = 0.1
    fewest_swaps: int = 8
    most_swaps: int = 16
    candidate_nats: float = 10.0

    def stages(self, K: int) -> StageSettings:
        """Return the settings of a mixture of K components."""
        return self.few if self.most_of_few >= K else self.many

    def rows_to_read(self, K: int, D: int) -> int:
        """Return the largest number of rows of D features that EM reads."""
        return max(self.rows, self.rows_of_components(K, D))

    def rows_of_components(self, K: int, D: int) -> int:
        """Return how many of these a mixture of many components needs; 0 for one of few."""
        stages = self.stages(K)
        wanted = K * D * stages.rows_per_component_and_feature
        return max(K * stages.rows_per_component, min(wanted, self.most_numbers // (K * D)))


@dataclass(frozen=True, kw_only=True)
class FullDataSettings:
    """Anderson-accelerated passes over all rows, the second phase of a large fit.

    Attributes
    ----------
    slices : int
        Number of pairs of draws of a pass, which together determine the scales. Row n is read under
        the pair n mod `slices`. A prime number, so that rows that alternate, or repeat with another
        period, see all draws too.
    longest_part : int
        Rows of a slice that are read at a time: what they take stays in the processor's cache.
    history : int
        Evaluations that Anderson acceleration combines.
    tolerance : float
        Length of the accelerated step, in sds, at which the passes have converged.
    shortest_step : float
        Fraction of a natural-gradient step down to which a step is halved when the elbo falls.
    settled_passes, settled_gain : int, float
        The passes have converged too if so many have raised the elbo by less than so many nats.
    averaged_passes : int
        Passes whose parameters are averaged at the end, at least. A dozen leave the sds a noise
        of one per cent. Half as many estimate the elbo.
    averaged_rows, most_averaged_passes : int
        Smaller data sets are quick to read again: as many passes as read `averaged_rows` in all,
        but no more than the second number.
    fewest_passes_limit, steps_per_pass : int
        The limit of passes is `max_steps / steps_per_pass`, but not below the first number.
    kept_statistics : int
        Numbers in the sufficient statistics of all rows up to which they are kept between passes.
    float32_weight : float
        Total weight of the rows up to which parameters and draws are in the dtype of the rows.
        Beyond it they are in float64 beside rows in float32: the gradient of a concentration in
        proportion to the number of rows is a difference of terms that large, and has to be known
        to about 1. 2^23, as float32 has 24 bits.
    widened_numbers : int
        Rows x features up to which rows whose weights add up to more are converted to float64:
        their log joint densities under single draws, of which importance weights are made, need its
        digits too. 32 MiB.
    """

    slices: int = 127
    longest_part: int = 8_192
    history: int = 8
    tolerance: float = 0.03
    shortest_step: float = 1 / 16
    settled_passes: int = 64
    settled_gain: float = 0.25
    averaged_passes: int = 12
    averaged_rows: int = 2**21
    most_averaged_passes: int = 64
    fewest_passes_limit: int = 200
    steps_per_pass: int = 100
    kept_statistics: int = 2**26
    float32_weight: float = 2.0**23
    widened_numbers: int = 2**22


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Rows that are read from a source, such as files, in each pass.

    Attributes
    ----------
    numbers_in_memory : int
        Rows x features that are kept in memory: of a source with more, a sample of so many, which
        serves for the starts, the first phase and the calibration. A smaller source is read once,
        and fitted as an array. 262,144 rows of 8 features are as many as the curvature reads.
    rows_per_slice : int
        Rows of each slice (see `FullDataSettings`) in a chunk, which is read and added up at a
        time: of 127 slices, 131,064 rows, in which reading and compiled calls cost little beside
        the arithmetic.
    numbers_per_chunk : int
        Limit of rows x features of a chunk, by which it has fewer rows for more than 128 features:
        64 MiB of float32. Several copies of a chunk are in memory at a time.
    chunks_per_part : int
        Chunks of the part of the rows that one task of an executor adds up. Sums are added in the
        order of the parts, so that this number, but not that of the workers, changes their last
        digits.
    patience : float
        Seconds that a pass waits for the next result of an executor, whose workers may all be lost
        and never come back: ten minutes, in which new ones can be started and import TensorFlow.
        `math.inf` waits for ever.
    chunks_ahead : int
        Chunks that the reading thread has ready.
    largest_rung : float
        Share of the rows in the sample up to which passes over the sample, by the same programs,
        come before those over all rows. They save some of the latter, and rivals of the best run
        are settled by them.
    numbers_of_draws : int
        Numbers in the draws of all passes that share a scan of the rows: 16 MiB of float32, which
        each task of an executor is sent. The passes that are averaged, and those that estimate the
        elbo, begin at the same parameters. In a shape of 10 components and 8 features one scan is
        enough for each of the two.
    """

    numbers_in_memory: int = 2**21
    rows_per_slice: int = 1_032
    numbers_per_chunk: int = 2**24
    chunks_per_part: int = 8
    patience: float = 600.0
    chunks_ahead: int = 2
    largest_rung: float = 0.125
    numbers_of_draws: int = 2**22


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """The normal distribution that has the posterior's dependence, and importance weights.

    Attributes
    ----------
    most_averaged_parameters : int
        Averaged curvature for up to so many parameters: the eigenvalues of a larger matrix take
        minutes, and so do 2 P gradients for each draw.
    most_parameters : int
        No calibration beyond.
    affordable_curvature_draws : int
        Averaged curvature is used only where so many draws, of 2 P gradients each, are affordable.
    start_draws : int
        Draws of the surrogate for the moments that averaged curvature starts from; its later steps
        correct their error of 0.03 sds.
    moment_draws : int
        The same for curvature at the mean, which corrects nothing: an error of 0.01 sds.
    fewest_draws, fewest_cheap_draws, most_draws : int
        Draws that one step averages the curvature over follow the estimated Monte Carlo noise,
        between the first and the last. The floor is the second where the gradients number at most
        `cheap_gradients`, because that estimate is itself unreliable for few draws.
    cheap_gradients, most_gradients : int
        Gradients of one step: what is cheap, and the limit.
    slope_draws : int
        Draws that the gradient is averaged over, one gradient each.
    slice_rows, most_slices : int
        Each draw reads one slice of the rows. There are up to `most_slices`, of `slice_rows` rows
        at least.
    most_steps : int
        Limit of steps of the averaged curvature, for posteriors so far from normal that it does not
        settle; k-hat then shows how bad it is.
    settled_variance, settled_variance_of_one : float
        Stop when a step changes the log importance weights by a variance below the first (nats^2)
        in all, and below the second in every direction: an sd then moves by less than 8 %.
    noise_variance : float
        Variance of log weights (nats^2) that Monte Carlo noise of the curvature may give.
    least_curvature, most_curvature : float
        Bounds of the new precision in units of the old: a step at most doubles or halves an sd.
        Far from a normal posterior longer steps leave it for good.
    longest_shift : float
        Bound of a step of the mean, in sds.
    flattest : float
        Least curvature at the mean, in units of the mean field's: no direction becomes more than
        ten times wider than the mean field. A flatter curvature, or one without a maximum, is not
        that of a normal distribution.
    curvature_products : int
        Products (rows x P^2) that the curvature at the mean may take, some ten seconds.
    curvature_rows : int
        Rows that it reads at most: of so many, its sds are good to 1 % even for a component that
        has 2 % of the rows.
    normal_rows : int
        With so many rows the mean field has the posterior's mean, and the mean is not shifted.
    shift_draws : int
        Draws for that shift of the mean. Few, because each costs a gradient over all rows.
    proposals_per_draw : int
        Draws of the proposal for each draw that is kept: nearly all that are kept then differ.
    fewest_proposals : int
        Proposals at least. Of 200 the 40 with the largest weights are the tail that k-hat is
        estimated from.
    widening : float
        The proposal is wider than the calibrated normal by 1 + widening / sqrt(P). The weights stay
        bounded where the posterior's tails are heavier than normal. Where they are not, it costs
        1 - exp(-2 widening^2) = 27 % of the effective sample size.
    relocated_fraction : float
        Fraction of proposals in which one empty component is moved onto a row of the data, from 0
        to below 1.
    khat_draws : int
        Draws kept when k-hat is estimated. Three proposals each leave a tail of 3 sqrt(3000) = 164
        weights, from which k-hat has a standard error of about (1 + k) / sqrt(164) = 0.1.
    refine_above : float
        k-hat above which the moments of the weighted draws replace the calibrated normal.
        Estimates are in doubt from 0.5 on.
    refinements : int
        Limit of such replacements, each of which costs twice as many weighted draws as the first
        estimate of k-hat.
    empty_rows, empty_fraction : float
        A component is empty if it is expected to hold fewer rows than the smaller of the first
        number and the second number times N / K.
    occupied_rows : float
        No component is empty if the smallest expected weight is worth more rows than this.
    candidate_rows : int
        Rows onto which an empty component may be moved, at most: the density of each proposal is a
        sum over all of them.
    empty_draws : int
        Draws over which expected counts are averaged. Few, because the counts are only compared
        with a fraction of a row.
    """

    most_averaged_parameters: int = 500
    most_parameters: int = 3_000
    affordable_curvature_draws: int = 24
    start_draws: int = 1_000
    moment_draws: int = 10_000
    fewest_draws: int = 8
    fewest_cheap_draws: int = 32
    most_draws: int = 128
    cheap_gradients: int = 2**11
    most_gradients: int = 2**15
    slope_draws: int = 256
    slice_rows: int = 512
    most_slices: int = 32
    most_steps: int = 6
    settled_variance: float = 0.2
    settled_variance_of_one: float = 0.0125
    noise_variance: float = 0.05
    least_curvature: float = 0.25
    most_curvature: float = 4.0
    longest_shift: float = 2.0
    flattest: float = 0.01
    curvature_products: int = 2**37
    curvature_rows: int = 2**18
    normal_rows: int = 100_000
    shift_draws: int = 16
    proposals_per_draw: int = 3
    fewest_proposals: int = 200
    widening: float = 0.4
    relocated_fraction: float = 0.5
    khat_draws: int = 1_000
    refine_above: float = 0.3
    refinements: int = 3
    empty_rows: float = 0.5
    empty_fraction: float = 0.05
    occupied_rows: float = 10.0
    candidate_rows: int = 2_048
    empty_draws: int = 16


@dataclass(frozen=True, kw_only=True)
class ScoutSettings:
    """The tempered sequential Monte Carlo that looks for modes that no start has found.

    Attributes
    ----------
    most_numbers : int
        Rows x components x features up to which it runs. It takes some hundred gradients for each
        particle.
    particles : int
        They need only show where the posterior has its mass.
    effective : float
        Fraction of the particles that is effective at the next power of the likelihood.
    moves, leapfrogs : int
        Moves by Hamiltonian Monte Carlo at each power, and the steps of each.
    rejuvenations : int
        Times that weighted draws are moved so, between two adaptations of a proposal whose k-hat
        stays too high.
    first_step : float
        Step size at the first power, in units of the curvature; it then adapts.
    acceptance : float
        Fraction of moves that are accepted, to which the step size adapts: between the 0.65 that
        is optimal in many dimensions (Beskos et al. 2013) and 1.
    """

    most_numbers: int = 2**12
    particles: int = 500
    effective: float = 0.3
    moves: int = 2
    leapfrogs: int = 4
    rejuvenations: int = 4
    first_step: float = 0.3
    acceptance: float = 0.7


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """The mixture of t distributions by which draws of the whole posterior are proposed.

    Attributes
    ----------
    always_numbers : int
        Rows x components x features up to which the mixture is adapted and modes are scouted for in
        any case.
    plain_khat : float
        Otherwise they are not where k-hat of the calibrated normal is below this, and all runs
        agree.
    plain_efficiency : float
        Nor where this fraction of the draws of a single member are effective, which is then taken
        before the calibrated normal is refined.
    most_coordinates, most_plain_coordinates : int
        Parameters up to which a mixture is adapted, and up to which a single member is tried: see
        docs/decisions/0011-whole-posterior.md.
    df : float
        Degrees of freedom of the members; half the parameters, if that is more. Few, because the
        tails of log precisions and log weights are heavier than normal.
    fewest_members, most_members : int
        Members at least, if there are more points than parameters, and at most.
    most_labelled_members : int
        Members times labellings at most.
    points_per_coordinate : float
        Points that a member needs for each coordinate.
    worth_of_sample : float
        Effective draws that a particle of the scout counts as.
    effective_per_coordinate : float
        Effective draws for each coordinate up to which the weights of an adaptation are tempered.
    mode_nats : float
        Optima whose elbo is further below the best are left out. The elbo of a mode is below its
        log evidence by one or two nats, and not by the same in each.
    mode_draws, most_moment_draws : int
        Draws at each mode that a mixture begins with, and at most for the moments of a single
        member.
    draws : int
        Draws of one adaptation.
    adaptations, most_adaptations : int
        Adaptation ends where k-hat and the effective fraction of the draws are better than the next
        two numbers, after the first number of adaptations where k-hat alone is, and after the
        second in any case.
    khat, efficiency : float
        The k-hat and the effective fraction of the draws that are good enough.
    final_effective, most_final_draws : int
        Independent draws are made until the first are effective, which gives the log evidence an
        error of 0.03 nats, and k-hat is below `khat`; but at most the second, and no more where
        k-hat is above 0.7 after two adaptations' worth of draws: the weights are then poor however
        many there are.
    most_refits : int
        Times that the mixture is fitted again to all these draws, at most, while k-hat is not below
        `khat`.
    fewest : int
        Proposals at least: see `CalibrationSettings.fewest_proposals`.
    most_per_draw : float
        Proposals for each draw at most.
    """

    always_numbers: int = 2**9
    plain_khat: float = 0.5
    plain_efficiency: float = 0.5
    most_coordinates: int = 30
    most_plain_coordinates: int = 150
    df: float = 5.0
    fewest_members: int = 4
    most_members: int = 40
    most_labelled_members: int = 1_500
    points_per_coordinate: float = 2.0
    worth_of_sample: float = 0.3
    effective_per_coordinate: float = 3.0
    mode_nats: float = 8.0
    mode_draws: int = 300
    most_moment_draws: int = 20_000
    draws: int = 3_000
    adaptations: int = 5
    most_adaptations: int = 7
    khat: float = 0.5
    efficiency: float = 0.3
    final_effective: int = 1_000
    most_final_draws: int = 18_000
    most_refits: int = 3
    fewest: int = 400
    most_per_draw: float = 10.0


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """The chains of Hamiltonian Monte Carlo that finish a fit whose importance weights are poor.

    Attributes
    ----------
    above_khat : float
        k-hat of the best proposal above which chains are run, if they are affordable.
    chains : int
        Many, because the density of many points costs little more than that of one.
    warm_up : tuple of int
        Moves of each window of the warm-up; after each but the last, the scale is adapted.
    first_step : float
        Step size at the beginning, in units of the scale.
    acceptance : float
        Mean acceptance probability, to which the step size adapts: between the 0.65 that is optimal
        in many dimensions (Beskos et al. 2013) and the 0.8 of Stan, which has to guard a single
        chain.
    most_leapfrogs : int
        Gradients of one move at most.
    moves, most_moves : int
        Moves of each chain before the first look at how they mix, and in all. Before each further
        look there are as many as in all before.
    rhat, effective : float
        R-hat and effective sample size at which the chains have run long enough. R-hat compares
        halves of short chains: where C chains have mixed, it is still about 1 + C / ESS, with the
        effective sample size ESS.
    worst_rhat, fewest_effective : float
        Limits of a sound result (Vehtari et al. 2021: 400 effective draws; R-hat 1.01 for chains of
        1,000 draws, and ours are short).
    most_modes : int
        Modes that get chains of their own.
    bridge_draws : int
        Draws of a proposal, and of the chains at most, for the log evidence.
    """

    above_khat: float = 0.5
    chains: int = 32
    warm_up: tuple[int, ...] = (40, 60, 80)
    first_step: float = 0.3
    acceptance: float = 0.7
    most_leapfrogs: int = 64
    moves: int = 100
    most_moves: int = 1_600
    rhat: float = 1.03
    effective: float = 1_000.0
    worst_rhat: float = 1.05
    fewest_effective: float = 400.0
    most_modes: int = 4
    bridge_draws: int = 4_000


@dataclass(frozen=True, kw_only=True)
class PopulationSettings:
    """Draws of a proposal with poor importance weights, moved by Hamiltonian Monte Carlo.

    Attributes
    ----------
    groups : int
        Independent groups, which are compared as chains are.
    proposals, particles : int
        Weighted draws of each group, and those that are resampled from them and moved.
    leapfrogs : int
        Gradients of one move.
    warm_up, moves : int
        Moves that are discarded, while the step size and the scale adapt, and those that are kept.
    first_step : float
        Step size at the beginning, in units of the curvature.
    acceptance : float
        As in `ScoutSettings`.
    """

    groups: int = 8
    proposals: int = 1_000
    particles: int = 64
    leapfrogs: int = 8
    warm_up: int = 8
    moves: int = 20
    first_step: float = 0.3
    acceptance: float = 0.7


@dataclass(frozen=True, kw_only=True)
class AnnealingSettings:
    """Particles from the prior, for a posterior that neither weights nor moved proposals reach.

    Attributes
    ----------
    most_numbers : int
        Rows x components x sufficient statistics of a row up to which it runs: some ten seconds.
    groups, most_groups : int
        Independent groups, which are compared as chains are, and the number up to which others are
        added while they disagree.
    particles : int
        Of each group. Fewer lose modes on the way, and the evidences of groups differ more.
    effective, moves, leapfrogs, first_step, acceptance : float, int, int, float, float
        As in `ScoutSettings`.
    warm_up, kept_moves : int
        Moves at the full likelihood that are discarded, and those that are kept.
    """

    most_numbers: int = 10_000
    groups: int = 4
    most_groups: int = 8
    particles: int = 500
    effective: float = 0.9
    moves: int = 1
    leapfrogs: int = 6
    first_step: float = 0.3
    acceptance: float = 0.7
    warm_up: int = 2
    kept_moves: int = 8


@dataclass(frozen=True, kw_only=True)
class AssessmentSettings:
    """What decides the elbo and the status of a fit.

    Attributes
    ----------
    elbo_numbers : int
        Draws x rows x features that the final elbo may take.
    fewest_elbo_draws, most_elbo_draws : int
        Bounds of the number of draws that follows from it.
    count_draws, weight_draws : int
        Draws over which the smallest component's expected number of rows is averaged: by
        responsibilities, where few suffice to compare it with `fewest_rows`, and by weights alone
        where there are many rows.
    fewest_rows : float
        Rows that a component must be expected to hold.
    least_share : float
        Share of the posterior from which on a second mode is worth a status.
    empty_by_prior : float
        A prior under which the smallest weight has a median worth fewer rows than this is taken to
        allow empty components: a twentieth of `fewest_rows`.
    fewest_searches : int
        Independent searches for starts below which a best optimum that a single start has reached
        says nothing. Beyond `StartSettings.most_of_few` components there are fewer.
    """

    elbo_numbers: int = 2**23
    fewest_elbo_draws: int = 32
    most_elbo_draws: int = 500
    count_draws: int = 16
    weight_draws: int = 500
    fewest_rows: float = 1.0
    least_share: float = 0.05
    empty_by_prior: float = 0.05
    fewest_searches: int = 3


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Budgets: the numbers in the largest array of one call, 4 or 8 bytes each.

    Most change what is in memory at a time, and results by no more than rounding. `affordable`,
    `empty_components` and the last two also limit what is computed; `mixture` also changes which
    draws `impute` makes for a seed.

    Attributes
    ----------
    density : int
        Log joint densities and their gradients.
    most_points : int
        Points that such a call takes at most.
    statistics : int
        Sufficient statistics of all rows, which each call makes anew.
    affordable : int
        Draws x rows x components x features that weighting or an averaged curvature may take in
        all: some ten seconds.
    curvature : int
        A slice of rows of the curvature at the mean.
    empty_components : int
        Expected counts of rows. It also limits the draws that these are averaged over, and the
        candidate rows for empty components.
    relocation : int
        Proposals that move an empty component.
    prediction : int
        Predictions for rows: 32 MiB in float32.
    mixture : int
        Predictive mixtures and imputation, where some ten such arrays exist at once.
    labellings : int
        Products that the density of a proposal under all labellings may take.
    leave_one_out : int
        Draws x rows of the log likelihood in leave-one-out: 80 MB in float32. For more rows there
        are fewer draws.
    posterior_predictive : int
        Draws x rows x features of each of the two predictive groups in InferenceData.
    """

    density: int = 2**21
    most_points: int = 512
    statistics: int = 2**24
    affordable: int = 2**32
    curvature: int = 2**24
    empty_components: int = 2**23
    relocation: int = 2**22
    prediction: int = 2**23
    mixture: int = 2**18
    labellings: int = 2**34
    leave_one_out: int = 20_000_000
    posterior_predictive: int = 20_000_000


@dataclass(frozen=True, kw_only=True)
class PaddingSettings:
    """Which problems share compiled programs: see `variational.padding`.

    Attributes
    ----------
    fewest_rows : int
        Small problems are given this number of rows, or 1.25, 1.5, 2, 2.5, 3, 4, ... times it:
        those that are added have weight zero. With 0 none are.
    components : tuple of int
        Small problems of the default prior have the first of these numbers of components that
        suffices: the others are inactive.
    numbers : int
        Rows x components x features, when padded, up to which a problem is small. A step then
        takes about as long as without padding.
    parameters : int
        Entries of the components' precisions, when padded, up to which a problem is small.
    """

    fewest_rows: int = 64
    components: tuple[int, ...] = (4, 6, 8, 12, 16, 24, 32)
    numbers: int = 2**15
    parameters: int = 256


@dataclass(frozen=True, kw_only=True)
class RobustMomentsSettings:
    """What counts as far from the other rows, and how much a covariance matrix may be regularised.

    Attributes
    ----------
    fence_tails : tuple of float
        Probabilities below and above the quantiles between which a column's middle part lies: the
        quartiles, or, where ties make these equal, the next pair.
    fence_ranges : float
        An entry is far if it is further from the middle part than so many times its length. Tukey's
        1.5 and 3 single out the tails of one skewed cluster; at 5, a normal column has a far entry
        once in 1e13.
    most_far : float
        Fraction of the rows above which the far rows are not the exception, and count.
    shrinkage_rows : int
        Rows, evenly spaced, whose likelihood decides on delta: where there are more, it is near
        zero whichever are read.
    very_far : float
        Standard deviations of the column, or with one scale for all columns such scales, beyond
        which `fit` warns of a row. A Student t with three degrees of freedom is further away once
        in a million.
    shrinkages : tuple of float
        Values of delta that are compared, by steps of half a power of ten, as the likelihood is
        flat. From 1e-10: precision matrices of equal columns can still be inverted in float64.
    least_of_float32 : float
        The smallest of them for rows in float32: a smaller one would leave standard deviations
        below the rounding of the rows.
    """

    fence_tails: tuple[float, ...] = (0.25, 0.1, 0.05, 0.025)
    fence_ranges: float = 5.0
    most_far: float = 0.5
    shrinkage_rows: int = 20_000
    very_far: float = 100.0
    shrinkages: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-20, 1))
    least_of_float32: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class DefaultPriorSettings:
    """The default prior, in units in which the scatter of the rows is the identity matrix.

    The values were chosen by held-out log density in studies whose scripts are not kept: see
    docs/decisions/0009-default-prior.md.

    Attributes
    ----------
    means_variance, shared_means_variance : float
        Variance of the component means: of the form "full", and of the other forms. Means farther
        than some scales of all rows are not expected. The form "full" predicted equally well with 4
        and 16, and preferred fewer superfluous components with 16.
    excess_df : float
        Degrees of freedom of each precision matrix given the common scale matrix ("full"), less D.
        4 (Malsiner-Walli et al. 2016) lets a component's shape differ freely from the common one,
        and gives its covariance matrix a finite mean.
    scale_mean : float
        Expected scale matrix of the form "full": with D + 4 degrees of freedom, a component's
        expected covariance is a third of it. Of 1, 2 and 4, this one predicted best.
    floor : float
        The density of the precision matrices of the form "full" has the factor
        exp(-floor / 2 K^(-2/D) sum_k trace). Without it, a component on a few tied rows can
        shrink without bound. A hundredth of the rows' own scatter costs nothing elsewhere.
    tied_excess_df : float
        Degrees of freedom of the form "tied", less D: 2 as in Fraley and Raftery (2007), so that
        the expected covariance is the inverse scale matrix. All rows inform it; the strength did
        not matter.
    precision_concentration, precision_rate : float
        Shape and rate / K^(-2/D) of the inverse variances of the forms "diag" and "spherical". The
        rate allows for clusters several times narrower than K equal shares of the data.
    weight_concentration : float
        Concentration of the Dirichlet distribution of the weights. Above 1, so that a component
        cannot be empty at no cost.
    """

    means_variance: float = 16.0
    shared_means_variance: float = 4.0
    excess_df: float = 4.0
    scale_mean: float = 4.0
    floor: float = 0.01
    tied_excess_df: float = 2.0
    precision_concentration: float = 1.5
    precision_rate: float = 0.25
    weight_concentration: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All numbers that steer a fit. The defaults suit nearly every data set.

    Other values are made with keyword arguments or `dataclasses.replace`::

        from bgmm_jd.settings import CalibrationSettings, Settings

        settings = Settings(calibration=CalibrationSettings(khat_draws=4_000))
        posterior = bgmm_jd.fit(X, K=3, settings=settings)

    Attributes
    ----------
    starts : StartSettings
        The search for starts.
    optimization : OptimizationSettings
        Restarts and natural-gradient steps.
    full_data : FullDataSettings
        Passes over all rows of a large data set.
    sources : SourceSettings
        Rows that are not in memory.
    calibration : CalibrationSettings
        Dependence between parameters, and importance weights.
    scout : ScoutSettings
        The search for modes that no start has found.
    proposal : ProposalSettings
        Draws of the whole posterior, all of its modes.
    chains : ChainSettings
        Hamiltonian Monte Carlo, where importance weights are poor.
    population : PopulationSettings
        Moved draws of a proposal, where its importance weights are poor.
    annealing : AnnealingSettings
        Particles from the prior, where moved draws disagree or there is no proposal.
    assessment : AssessmentSettings
        The final elbo and the status.
    memory : MemorySettings
        The size of the largest arrays.
    padding : PaddingSettings
        Which problems share compiled programs.
    default_prior : DefaultPriorSettings
        The prior of a fit that is given none, and of the search for starts.
    robust_moments : RobustMomentsSettings
        Location and scatter of the rows: the units in which they are fitted, and of the default
        prior.
    """

    starts: StartSettings = field(default_factory=StartSettings)
    optimization: OptimizationSettings = field(default_factory=OptimizationSettings)
    full_data: FullDataSettings = field(default_factory=FullDataSettings)
    sources: SourceSettings = field(default_factory=SourceSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    scout: ScoutSettings = field(default_factory=ScoutSettings)
    proposal: ProposalSettings = field(default_factory=ProposalSettings)
    chains: ChainSettings = field(default_factory=ChainSettings)
    population: PopulationSettings = field(default_factory=PopulationSettings)
    annealing: AnnealingSettings = field(default_factory=AnnealingSettings)
    assessment: AssessmentSettings = field(default_factory=AssessmentSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    padding: PaddingSettings = field(default_factory=PaddingSettings)
    default_prior: DefaultPriorSettings = field(default_factory=DefaultPriorSettings)
    robust_moments: RobustMomentsSettings = field(default_factory=RobustMomentsSettings)
