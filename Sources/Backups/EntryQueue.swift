/// The entries of an archive that are left to restore, in the order of their dependencies. Entries whose dependencies
/// are done come in the order of the archive. Pure: no I/O.
struct EntryQueue {
    private let entries: [TableOfContents.Entry]
    private let positions: [Int: Int]
    /// The positions of the entries that depend on each entry.
    private let dependents: [[Int]]
    /// The number of dependencies of each entry that are not done.
    private var unmet: [Int]
    private var isTaken: [Bool]
    /// The positions of the entries that can be run, the last one first.
    private var ready: [Int]
    /// The first position that may not be taken yet.
    private var first = 0
    private var left: Int
    private var running = 0
    private(set) var failed: [(entry: TableOfContents.Entry, reason: String)] = []

    init(_ entries: [TableOfContents.Entry]) {
        let positions = Dictionary(entries.enumerated().map { ($1.id, $0) }) { one, _ in one }
        var dependents = [[Int]](repeating: [], count: entries.count)
        var unmet = [Int](repeating: 0, count: entries.count)
        for (place, entry) in entries.enumerated() {
            for other in Set(entry.dependencies).compactMap({ positions[$0] }) where other != place {
                dependents[other].append(place)
                unmet[place] += 1
            }
        }
        self.entries = entries
        self.positions = positions
        self.dependents = dependents
        self.unmet = unmet
        isTaken = [Bool](repeating: false, count: entries.count)
        ready = entries.indices.reversed().filter { unmet[$0] == 0 }
        left = entries.count
    }

    enum Next: Equatable {
        case entry(TableOfContents.Entry)
        /// All remaining entries depend on entries that are running.
        case later
        case none
    }

    mutating func next() -> Next {
        while let place = ready.popLast() {
            if !isTaken[place] { return take(place) }
        }
        if left == 0 { return .none }
        if running > 0 { return .later }
        // An archive may list dependencies in a circle, as pg_dump does for some views. Its order is then kept.
        while isTaken[first] { first += 1 }
        return take(first)
    }

    private mutating func take(_ place: Int) -> Next {
        isTaken[place] = true
        left -= 1
        running += 1
        return .entry(entries[place])
    }

    /// To be called when an entry that `next` has returned is done.
    ///
    /// - Parameter failure: the server's message, if the entry was refused. Entries that depend on it fail, too.
    mutating func finish(_ entry: TableOfContents.Entry, failure: String? = nil) {
        guard let place = positions[entry.id] else { return }
        running -= 1
        if let failure { fail(place, failure) } else { release(dependents[place]) }
    }

    private mutating func release(_ places: [Int]) {
        for place in places {
            unmet[place] -= 1
            guard unmet[place] == 0, !isTaken[place] else { continue }
            let index = ready.partitioning { $0 < place }
            ready.insert(place, at: index)
        }
    }

    private mutating func fail(_ place: Int, _ reason: String) {
        var failing = [(place, reason)]
        while let (place, reason) = failing.popLast() {
            failed.append((entries[place], reason))
            let text = "it depends on entry \(entries[place].id), which was not restored"
            for other in dependents[place] where !isTaken[other] {
                isTaken[other] = true
                left -= 1
                failing.append((other, text))
            }
        }
    }
}

extension Array where Element == Int {
    /// Returns the first index whose element fulfils a condition that all later elements fulfil, too.
    fileprivate func partitioning(_ belongs: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if belongs(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
