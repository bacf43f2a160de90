import Postgres

/// The steps of a restore in their order: which parts of a backup each of them restores, which entries of an archive, and
/// with which options of pg_restore. Pure.
///
/// Rows come before indexes and constraints, which are built faster once the rows are there, and before triggers, which
/// must not fire for them. Masks come between rows and triggers: a trigger would see what is masked, and could keep it.
struct RestorePlan: Sendable {
    /// What is restored.
    enum Scope: Sendable {
        case everything
        /// The rows of these tables, and all definitions, into a scratch server.
        case tables(Set<FetchedTable>)
    }

    enum Step: Sendable, Equatable {
        /// Whole parts, over `jobs` connections.
        case parts([Manifest.Part], options: [String] = [], jobs: Int = 1)
        /// Refuses tables, or all, whose rows would run functions of roles that are not trusted (`CodeTrust`).
        case refuseUntrusted(in: Set<FetchedTable>?)
        /// Suspends CHECK constraints of tables (`Confinement.suspendChecks`).
        case suspendChecks
        case mask(MaskingRules)
        /// Some entries of an archive, over `jobs` connections.
        case entries(Entries, of: Manifest.Part, jobs: Int = 1)
        /// The constraints whose making checks rows (`lateConstraints`), each in a session of its own.
        case lateConstraints(of: Manifest.Part, jobs: Int)
    }

    /// Entries of an archive by type; comments and security labels go with the objects they are on.
    enum Entries: Sendable, Equatable {
        case only(Set<String>)
        case allBut(Set<String>)

        func of(_ contents: TableOfContents) -> TableOfContents {
            switch self {
            case .only(let types): contents.entries(of: types)
            case .allBut(let types): contents.without(contents.entries(of: types))
            }
        }
    }

    /// The options that pg_restore gets in every step.
    static let options = ["--exit-on-error", "--no-tablespaces", "-Fc"]

    /// Constraints that are checked when they are made, by functions of others perhaps, whose settings and cursors must
    /// not outlive that: each is made in a session of its own. A partial restore makes them in the target.
    static let lateConstraints: Set<String> = ["FK CONSTRAINT", "CHECK CONSTRAINT"]
    private static let eventTriggers: Set<String> = ["EVENT TRIGGER"]
    /// Entries of no use for single tables, which a partial restore leaves out.
    private static let ofWholeDatabases: Set<String> = [
        "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION", "SUBSCRIPTION TABLE",
        "MATERIALIZED VIEW DATA",
    ]

    /// From rows to triggers.
    let contents: [Step]
    /// Event triggers, which fire for everything created after them, and so come last.
    let last: [Step]

    init(_ scope: Scope, of manifest: Manifest, jobs: Int, masking: MaskingRules) {
        func parts(_ kinds: Manifest.Part.Kind...) -> [Manifest.Part] {
            manifest.parts.filter { kinds.contains($0.kind) }
        }
        let jobs = max(1, jobs)
        let rows: Step
        let filled: Set<FetchedTable>?
        let dependents: [Step]
        switch scope {
        case .everything:
            filled = nil
            // The largest first, so that it does not keep a single connection busy at the end.
            rows = .parts(parts(.data, .largeObjects).sorted { $0.bytes > $1.bytes }, jobs: jobs)
            dependents = parts(.after).flatMap { part -> [Step] in
                [
                    .entries(.allBut(Self.eventTriggers.union(Self.lateConstraints)), of: part, jobs: jobs),
                    .lateConstraints(of: part, jobs: jobs),
                ]
            }
            last = parts(.after).map { .entries(.only(Self.eventTriggers), of: $0, jobs: jobs) }
        case .tables(let tables):
            filled = tables
            let wanted = Set(
                manifest.tables.filter { tables.contains(FetchedTable(schema: $0.schema, name: $0.name)) }.map {
                    ExactText($0.path)
                })
            let holding = parts(.data).filter { !wanted.isDisjoint(with: $0.tables.map(ExactText.init)) }
            // These also match a wanted name in another wanted schema; more than is wanted does no harm here.
            let options =
                Set(tables.map { ExactText($0.schema) }).map { "--schema=\($0.text)" }.sorted()
                + Set(tables.map { ExactText($0.name) }).map { "--table=\($0.text)" }.sorted()
            rows = .parts(holding.sorted { $0.bytes > $1.bytes }, options: options, jobs: jobs)
            let leftOut = Self.lateConstraints.union(Self.eventTriggers).union(Self.ofWholeDatabases)
            dependents = parts(.after).map { .entries(.allBut(leftOut), of: $0) }
            last = []
        }
        // After the rows, since pg_dump sets sequences too, to their values at the time of the dump.
        contents =
            [.refuseUntrusted(in: filled), .suspendChecks, rows, .parts(parts(.sequences))]
            // All rules, for one about a table holds for its partitions and for what inherits from it. Tables that are not
            // wanted are there, and empty.
            + (masking.isEmpty ? [] : [.mask(masking)]) + dependents
    }

    /// The first steps: all definitions, from schemas to tables. The tables to fetch are looked up after them.
    static func definitions(of manifest: Manifest) -> [Step] {
        [.parts(manifest.parts.filter { $0.kind == .before })]
    }

    /// The parts that steps read, each as often as it is read.
    static func parts(of steps: [Step]) -> [Manifest.Part] {
        steps.flatMap { step -> [Manifest.Part] in
            switch step {
            case .parts(let parts, _, _): parts
            case .entries(_, let part, _), .lateConstraints(let part, _): [part]
            case .refuseUntrusted, .suspendChecks, .mask: []
            }
        }
    }
}
