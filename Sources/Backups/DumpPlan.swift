import Postgres

/// What a backup consists of: which tables lie in which part. Pure.
struct DumpPlan: Sendable {
    /// What one pg_dump writes.
    struct Part: Sendable {
        let kind: Manifest.Part.Kind
        let name: String
        /// The tables that it holds all rows of.
        let tables: [String]
        let arguments: [String]
    }

    /// The parts that pg_dump makes; all of them are begun at once.
    let parts: [Part]
    /// Tables whose fingerprints decide about those parts.
    let small: [DatabaseContent.Relation]
    /// Pieces of large tables, the largest table first.
    let slices: [TableSlice]

    /// About the bytes of the tables that share a part: few parts, for each pg_dump reads the whole catalog.
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
        // The ledger changes with each backup; what lies with it would never be unchanged.
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

    /// All but the last name their tables; the last is of everything that no other part holds, so that nothing is left
    /// out of which pg_dump knows better.
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

    /// Patterns that match just these tables, many with each: pg_dump asks the server once for a pattern.
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
                // An argument may have 128 KB.
                if length + table.name.utf8.count > 60_000 { close() }
                names.append(table.name)
                length += 2 * table.name.utf8.count + 3
            }
            close()
        }
        return patterns
    }
}
