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
    }

    /// The parts that pg_dump writes. All of them are started at the same time.
    let parts: [Part]
    /// The tables whose rows pg_dump writes. Their fingerprints decide which of `parts` are needed.
    let small: [DatabaseContent.Relation]
    /// The slices of the large tables, the largest table first.
    let slices: [TableSlice]

    /// The approximate size of the tables that share a part, in bytes. Parts are few, because each pg_dump reads the
    /// whole catalog.
    private static let bundle = 1 << 30

    init(
        _ relations: [DatabaseContent.Relation], hasLargeObjects: Bool, server: Int,
        _ sizes: TableSlice.Sizes = TableSlice.Sizes()
    ) {
        let tables = relations.filter(\.hasRows)
        let large = tables.filter { TableSlice.isLarge($0, sizes) }.sorted { $0.bytes > $1.bytes }
        slices = large.flatMap { TableSlice.slices(of: $0, server: server, sizes) }
        let isSliced = Set(large)
        small = tables.filter { !isSliced.contains($0) }
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
        parts += Self.bundles(small.filter { $0.schema != UserSchemas.ledger }, besides: large)
        self.parts = parts
    }

    /// Distributes tables over parts. For every part except the last one, the arguments list the tables of the part.
    /// The last part contains everything that no other part contains. So objects that only pg_dump finds are not left
    /// out.
    private static func bundles(
        _ tables: [DatabaseContent.Relation], besides large: [DatabaseContent.Relation]
    ) -> [Part] {
        let bound = max(bundle, tables.reduce(0) { $0 + $1.bytes } / 8)
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
