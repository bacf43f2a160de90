import Postgres
import SQL

/// The contents of a backup: the tables in each part. Pure: no I/O.
struct DumpPlan: Sendable {
    /// The output of one pg_dump.
    struct Part: Sendable {
        let kind: Manifest.Part.Kind
        let name: String
        /// The tables of which the part contains all rows.
        let tables: [String]
        let arguments: [String]

        /// Whether pg_dump locks only the tables of the part.
        var isLimited: Bool { arguments.contains { $0.hasPrefix("--table=") || $0.hasPrefix("--schema=") } }
    }

    /// The parts that pg_dump writes. All of them are started at the same time.
    let parts: [Part]
    /// The tables whose rows pg_dump writes. Their fingerprints decide which of `parts` are needed.
    let small: [DatabaseContent.Relation]
    /// The slices of the large tables, the largest table first.
    let slices: [TableSlice]

    /// The number of parts over which the small tables are distributed, if they fit into them.
    private static let bundles = 8

    /// Whether the rows of a large table are hashed while they are dumped: the dump has all columns.
    private static func isHashedInPassing(_ table: DatabaseContent.Relation) -> Bool {
        table.columns.count == table.storedColumns.count
    }

    /// Returns the size of the small tables that share a part, in bytes. Parts are few, because each pg_dump reads the
    /// whole catalog, and larger in a database of many tables, because that takes longer there.
    private static func bundle(ofTables count: Int, _ sizes: TableSlice.Sizes) -> Int {
        sizes.bundle * max(1, count / 1000)
    }

    /// Returns the size from which tables are stored in slices: the largest with which the smaller tables fit into
    /// their parts. It is halved, and not adjusted to the sizes, so that tables seldom change their part from one
    /// backup to the next.
    private static func threshold(_ tables: [DatabaseContent.Relation], _ sizes: TableSlice.Sizes) -> Int {
        let room = bundles * bundle(ofTables: tables.count, sizes)
        var large = sizes.large
        while large / 2 >= sizes.smallest, tables.reduce(0, { $0 + ($1.bytes < large ? $1.bytes : 0) }) > room {
            large /= 2
        }
        return large
    }

    /// The number of sessions that lock all tables, if the plan is carried out by this number of readers. The pg_dumps
    /// of bundles together lock each table once at most.
    func sessions(readers: Int) -> Int { 1 + readers + parts.count { !$0.isLimited } + 1 }

    init(
        _ relations: [DatabaseContent.Relation], hasLargeObjects: Bool, server: Int,
        _ sizes: TableSlice.Sizes = TableSlice.Sizes()
    ) {
        let tables = relations.filter(\.hasRows)
        var sizes = sizes
        sizes.large = Self.threshold(tables, sizes)
        let large = tables.filter { TableSlice.isLarge($0, sizes) }.sorted { $0.bytes > $1.bytes }
        let isSliced = Set(large)
        // The fingerprints of partitions with a common root are added, so all of them are computed in the same way.
        let roots = Set(large.filter(Self.isHashedInPassing).compactMap { $0.root.map(ExactText.init) })
        func planned(_ relation: DatabaseContent.Relation) -> DatabaseContent.Relation {
            var relation = relation
            if isSliced.contains(relation) ? Self.isHashedInPassing(relation) : relation.isPartition(of: roots) {
                relation.isOfCopy = true
            }
            return relation
        }
        slices = large.flatMap { TableSlice.slices(of: planned($0), server: server, sizes) }
        small = tables.filter { !isSliced.contains($0) }.map(planned)
        var parts = [
            Part(kind: .before, name: "schema-before.dump", tables: [], arguments: ["--section=pre-data"]),
            Part(kind: .after, name: "schema-after.dump", tables: [], arguments: ["--section=post-data"]),
        ]
        if hasLargeObjects {
            parts.append(
                Part(
                    kind: .largeObjects, name: "large-objects.dump", tables: [],
                    arguments: ["--section=data", "--blobs", "--exclude-table=*.*"]))
        }
        // The ledger's tables have their own part. The ledger changes with each backup, so a part that contained the
        // ledger and other tables would never be reused.
        let own = small.filter { $0.schema == UserSchemas.ledger }
        if !own.isEmpty {
            parts.append(
                Part(
                    kind: .data, name: "data-reeve.dump", tables: own.map(\.path),
                    arguments: ["--section=data", "--schema=\(UserSchemas.ledger)"]))
        }
        // The rows of these partitions are dumped for a restore through their root.
        let routed = small.filter { $0.schema != UserSchemas.ledger && $0.root != nil }
        if !routed.isEmpty {
            parts.append(
                Part(
                    kind: .data, name: "data-routed.dump", tables: routed.map(\.path),
                    arguments: ["--section=data", "--load-via-partition-root"]
                        + Self.patterns(routed).map { "--table=\($0)" }))
        }
        parts += Self.bundles(
            small.filter { $0.schema != UserSchemas.ledger && $0.root == nil }, besides: large + routed,
            Self.bundle(ofTables: tables.count, sizes))
        self.parts = parts
    }

    /// Distributes tables over parts. For every part except the last one, the arguments list the tables of the part.
    /// The last part contains everything that no other part contains. So objects that only pg_dump finds are not left
    /// out.
    private static func bundles(
        _ tables: [DatabaseContent.Relation], besides large: [DatabaseContent.Relation], _ bundle: Int
    ) -> [Part] {
        let bound = max(bundle, tables.reduce(0) { $0 + $1.bytes } / Self.bundles)
        var bundles: [[DatabaseContent.Relation]] = [[]]
        var size = 0
        for table in tables {
            if size + table.bytes > bound, size > 0 {
                bundles.append([])
                size = 0
            }
            bundles[bundles.count - 1].append(table)
            size += table.bytes
        }
        return bundles.enumerated().compactMap { number, bundle in
            if bundle.isEmpty { return nil }
            let isLast = number == bundles.count - 1
            let others = large + bundles[..<number].joined()
            let arguments =
                isLast
                ? ["--no-blobs", "--exclude-schema=\(UserSchemas.ledger)"]
                    + patterns(others).map { "--exclude-table-data=\($0)" }
                : patterns(bundle).map { "--table=\($0)" }
            return Part(
                kind: .data, name: "data-\(number + 1).dump", tables: bundle.map(\.path),
                arguments: ["--section=data"] + arguments)
        }
    }

    /// Returns patterns that match exactly these tables, with many tables in each pattern, because pg_dump queries the
    /// server once for each pattern.
    static func patterns(_ tables: [DatabaseContent.Relation]) -> [String] {
        var patterns: [String] = []
        for (schema, members) in Dictionary(grouping: tables, by: \.schema).sorted(by: { $0.key < $1.key }) {
            var names: [String] = []
            var length = 0
            func close() {
                if !names.isEmpty { patterns.append(quotePattern(schema: schema, names: names)) }
                names = []
                length = 0
            }
            for table in members {
                // Linux limits an argument to 128 KiB.
                if length + table.name.utf8.count > 60_000 { close() }
                names.append(table.name)
                length += 2 * table.name.utf8.count + 3
            }
            close()
        }
        return patterns
    }
}
