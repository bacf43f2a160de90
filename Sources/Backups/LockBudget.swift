/// How the sessions of a backup share the server's lock table, which all of them together can fill. Pure: no I/O.
struct LockBudget: Sendable, Equatable {
    /// Whether each reader locks all tables when it begins, and each dump starts immediately, so that no later request
    /// queues behind a session that waits for a stronger lock. Otherwise, readers lock only the tables that they read,
    /// and dumps start one after another.
    let locksAll: Bool
    /// How many reads and dumps run concurrently.
    let slots: Int
    /// How many of them may be dumps.
    let dumps: Int

    /// The locks of a reader that locks only what it reads: `tablesAtOnce` tables with their indexes, and those of the
    /// catalog.
    private static let ofReader = 200

    /// The number of small tables that a reader reads with one query.
    var tablesAtOnce: Int { locksAll ? 40 : 10 }

    /// - Parameters:
    ///   - relations: the number of relations that the session with the snapshot and each dump lock.
    ///   - capacity: the number of locks that the lock table can hold.
    ///   - holdsLocks: whether the session with the snapshot has locked the relations.
    ///   - jobs: the number of reads and dumps that are to run concurrently.
    ///   - sessions: the number of sessions that would lock all relations, if each did so when it begins.
    init(relations: Int, capacity: Int, holdsLocks: Bool, jobs: Int, sessions: Int) {
        let jobs = max(1, jobs)
        locksAll = holdsLocks && relations * sessions <= capacity
        // What the snapshot's session and the readers leave to the dumps.
        let rest = capacity - (holdsLocks ? relations : 0) - jobs * Self.ofReader
        let dumps = locksAll ? jobs : rest / max(1, relations)
        // Without room for a dump beside the readers, reads and dumps take turns.
        slots = dumps > 0 && holdsLocks ? jobs : 1
        self.dumps = max(1, min(dumps, slots))
    }
}
