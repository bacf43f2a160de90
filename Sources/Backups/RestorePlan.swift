import Postgres
import SQL

/// The steps of a restore, in order. Each step restores parts of a backup, or entries of an archive, with its own
/// options of pg_restore. Pure: no I/O.
///
/// Rows are restored before indexes and constraints, which are built faster when the rows exist, and before triggers,
/// which must not fire for restored rows. Masks are applied between rows and triggers, because a trigger could see and
/// store the original values.
struct RestorePlan: Sendable {
    enum Scope: Sendable {
        case everything
        /// Restores the rows of these tables into a scratch server. The server also gets the definitions of all other
        /// tables.
        case tables(Set<FetchedTable>)
        /// Restores the same definitions, but no rows. The rows of these tables are read from the backup later.
        case definitions(of: Set<FetchedTable>)
    }

    enum Step: Sendable, Equatable {
        /// Restores whole parts, over `jobs` connections.
        case parts([Manifest.Part], options: [String] = [], jobs: Int = 1)
        /// Refuses tables if inserting rows into them would call functions of roles that are not trusted (`CodeTrust`).
        /// nil: all tables.
        case refuseUntrusted(in: Set<FetchedTable>?)
        /// Suspends the CHECK constraints of tables (`Confinement.suspendChecks`).
        case suspendChecks
        case mask(MaskingRules)
        /// Restores some entries of an archive, over `jobs` connections.
        case entries(Entries, of: Manifest.Part, jobs: Int = 1)
        /// Makes the constraints that check existing rows (`lateConstraints`), each in its own session.
        case lateConstraints(of: Manifest.Part, jobs: Int)
    }

    /// A choice of entries of an archive by their types. Comments and security labels are chosen with the entries that
    /// they describe.
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

    /// The types of entries that make late constraints: constraints that PostgreSQL checks against the existing rows
    /// when they are made. The check may call functions of other roles, whose settings and cursors must not remain in
    /// the session. So each constraint is made in its own session. A partial restore makes these constraints in the
    /// target.
    static let lateConstraints: Set<String> = ["FK CONSTRAINT", "CHECK CONSTRAINT"]
    private static let eventTriggers: Set<String> = ["EVENT TRIGGER"]
    /// Entries that a partial restore leaves out, because they are useless for single tables.
    private static let ofWholeDatabases: Set<String> = [
        "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION", "SUBSCRIPTION TABLE",
        "MATERIALIZED VIEW DATA",
    ]

    private static let leftOutOfTables = lateConstraints.union(eventTriggers).union(ofWholeDatabases)

    /// The steps that follow the definitions: from rows to triggers.
    let contents: [Step]
    /// The steps for event triggers. They are last, because event triggers fire for every object that is created later.
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
            // Restore the largest part first, so that it does not keep a single connection busy at the end.
            rows = .parts(parts(.data, .largeObjects).sorted { $0.bytes > $1.bytes }, jobs: jobs)
            dependents = parts(.after).flatMap { part -> [Step] in
                [
                    .entries(.allBut(Self.eventTriggers.union(Self.lateConstraints)), of: part, jobs: jobs),
                    .lateConstraints(of: part, jobs: jobs),
                ]
            }
            last = parts(.after).map { .entries(.only(Self.eventTriggers), of: $0, jobs: jobs) }
        case .definitions(let tables):
            contents =
                [.refuseUntrusted(in: tables), .parts(parts(.sequences))]
                + parts(.after).map { .entries(.allBut(Self.leftOutOfTables), of: $0) }
            last = []
            return
        case .tables(let tables):
            filled = tables
            let wanted = Set(
                manifest.tables.filter { tables.contains(FetchedTable(schema: $0.schema, name: $0.name)) }.map {
                    ExactText($0.path)
                })
            let holding = parts(.data).filter { !wanted.isDisjoint(with: $0.tables.map(ExactText.init)) }
            // These options also match a table that has the schema of one wanted table and the name of another. The
            // rows of such a table do no harm in a scratch server.
            let options =
                Set(tables.map { ExactText($0.schema) }).map { "--schema=\($0.text)" }.sorted()
                + Set(tables.map { ExactText($0.name) }).map { "--table=\($0.text)" }.sorted()
            rows = .parts(holding.sorted { $0.bytes > $1.bytes }, options: options, jobs: jobs)
            dependents = parts(.after).map { .entries(.allBut(Self.leftOutOfTables), of: $0) }
            last = []
        }
        // Sequences are restored after the rows. pg_dump's data sections also set sequences, but to their values at the
        // time of the dump.
        contents =
            [.refuseUntrusted(in: filled), .suspendChecks, rows, .parts(parts(.sequences))]
            // All masks are applied, because a rule for a table also applies to its partitions and to tables that
            // inherit from it. Tables that are not wanted exist, but are empty.
            + (masking.isEmpty ? [] : [.mask(masking)]) + dependents
    }

    /// Returns the first steps: all definitions, from schemas to tables. The tables to restore are resolved after these
    /// steps.
    static func definitions(of manifest: Manifest) -> [Step] {
        [.parts(manifest.parts.filter { $0.kind == .before })]
    }

    /// Returns the parts that the steps read. A part that several steps read is returned several times.
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
