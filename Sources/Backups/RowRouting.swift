import SQL

/// Which tables the rows of scripts go to, and which scripts are needed for that. Pure: no I/O.
struct RowRouting: Sendable {
    private let tables: [StoredTable]
    /// The tables that the rows are inserted into, by the tables in the backup.
    private let targets: [FetchedTable: FetchedTable]

    /// - Parameters:
    ///   - tables: the tables in the backup.
    ///   - targets: the same tables under their names in the target, in the same order.
    init(_ tables: [StoredTable], as targets: [FetchedTable]) {
        self.tables = tables
        self.targets = Dictionary(zip(tables.map(\.table), targets)) { one, _ in one }
    }

    /// Where the rows go that a script inserts into a table. A script of pg_dump may insert the rows of a partition
    /// into the root of its partitions.
    ///
    /// - Parameter tables: the tables of which the script contains rows.
    func destinations(of tables: [StoredTable]) -> [FetchedTable: CopyFilter.Destination] {
        var destinations: [FetchedTable: CopyFilter.Destination] = [:]
        for one in tables where one.hasRows {
            func destination(_ table: FetchedTable) -> CopyFilter.Destination {
                CopyFilter.Destination(
                    path: (targets[table] ?? table).path, columns: Set(one.columns.map(ExactText.init)))
            }
            destinations[one.table] = destination(one.isRerouted ? root(of: one) ?? one.table : one.table)
            if let named = one.ancestors.last, destinations[named] == nil {
                destinations[named] = destination(root(of: one) ?? one.table)
            }
        }
        return destinations
    }

    /// The topmost of the table's ancestors that are restored, too.
    private func root(of one: StoredTable) -> FetchedTable? { one.ancestors.last { targets[$0] != nil } }

    /// Returns the tables that are read from a part, in groups that are each read by a run of its own. A script that
    /// inserts rows into a root does not say which partition they are of. So if the partitions go to different tables,
    /// because they are restored without the root, each has its own script.
    func groups(in part: Manifest.Part) -> [[StoredTable]] {
        let inPart = Set(part.tables.map(ExactText.init))
        let wanted = tables.filter { inPart.contains(ExactText($0.table.path)) }
        let families = Dictionary(grouping: wanted) { $0.ancestors.last ?? $0.table }.values
        func isApart(_ family: [StoredTable]) -> Bool {
            Set(family.map { ExactText((targets[root(of: $0) ?? $0.table] ?? $0.table).path) }).count > 1
        }
        let apart = families.filter(isApart).flatMap { $0 }.sorted { $0.table < $1.table }.map { [$0] }
        let together = families.filter { !isApart($0) }.flatMap { $0 }
        return apart + (together.isEmpty ? [] : [together])
    }
}
