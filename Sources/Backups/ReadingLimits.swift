import Postgres
import SQL

/// How tables are not to be read, as learned from failures.
struct ReadingLimits {
    /// The roles on whose tables no queries are run. Planning a query runs code of the table's owner, and such code has
    /// disturbed a query. The owner could disturb a query on any other table, too.
    private(set) var owners: Set<ExactText> = []
    /// The tables that are not read in slices.
    private(set) var whole: Set<DatabaseContent.Relation> = []

    /// Learns from a failure.
    ///
    /// - A role that is not trusted may make an index at any time, and planning a query runs the index's code. COPY of
    ///   a whole table plans no query.
    /// - A query that prints rows in UTF-8 fails for bytes that are no characters of the database's encoding. pg_dump
    ///   does not convert the rows.
    ///
    /// - Returns: whether the tables can be read in another way.
    mutating func learn(from failure: ReadFailure) -> Bool {
        let isEncoding = ["22021", "22P05"].contains((failure.cause as? PostgresError)?.sqlState)
        for relation in failure.relations {
            if case .owner(let owner) = relation.reading {
                owners.insert(ExactText(owner))
            } else if isEncoding, relation.isSliceable {
                whole.insert(relation)
            } else {
                return false
            }
        }
        return true
    }

    /// Sets how relations are read. All partitions with a common root are read in the same way, because their
    /// fingerprints are added.
    func applied(to relations: [DatabaseContent.Relation]) -> [DatabaseContent.Relation] {
        let limited = relations.map { relation in
            var relation = relation
            if case .owner(let owner) = relation.reading, owners.contains(ExactText(owner)) { relation.reading = .copy }
            if whole.contains(relation) { relation.isSliceable = false }
            return relation
        }
        let roots = Set(limited.filter { $0.reading == .copy }.compactMap { $0.root.map(ExactText.init) })
        return limited.map { relation in
            var relation = relation
            if relation.isPartition(of: roots) { relation.reading = .copy }
            relation.isOfCopy = relation.reading == .copy
            return relation
        }
    }
}
