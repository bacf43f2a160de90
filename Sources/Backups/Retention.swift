import Postgres

/// Decides which backups are kept, by the grandfather-father-son scheme. Pure: no I/O.
public struct RetentionPolicy: Sendable, Equatable {
    /// The number of days, of weeks and of months for which the newest proven backup is kept. Days, weeks and months
    /// without a proven backup do not count.
    public var daily = 7
    public var weekly = 5
    public var monthly = 12
    /// The number of newest backups that are always kept.
    public var atLeast = 3
    /// Backups that are younger than this are kept, proven or not.
    public var within: Duration = .zero

    public init() {}

    /// The properties of a backup that decide whether it is kept.
    public struct Candidate: Sendable, Equatable {
        public let id: String
        public let finishedAt: Timestamp
        public let isProven: Bool

        public init(id: String, finishedAt: Timestamp, isProven: Bool) {
            self.id = id
            self.finishedAt = finishedAt
            self.isProven = isProven
        }
    }

    public struct Decision: Sendable, Equatable {
        public let id: String
        public let stays: Bool
        public let reason: String
    }

    /// Decides about each backup, newest first.
    ///
    /// Only proven backups fill the days, weeks and months, because a backup that was never shown to be restorable must
    /// not displace a proven backup. Backups that are newer than the newest proven one are kept. Without any proven
    /// backup, all are kept.
    public func decide(_ candidates: [Candidate], now: Timestamp) -> [Decision] {
        let sorted = candidates.sorted { ($0.finishedAt, $0.id) > ($1.finishedAt, $1.id) }
        guard let newest = sorted.first(where: \.isProven) else {
            return sorted.map { Decision(id: $0.id, stays: true, reason: "no backup has been proven yet") }
        }
        let slots = slots(sorted.filter(\.isProven))
        return sorted.enumerated().map { number, one in
            if one == newest { return Decision(id: one.id, stays: true, reason: "the newest proven backup") }
            if one.finishedAt > newest.finishedAt {
                return Decision(id: one.id, stays: true, reason: "newer than the newest proven backup")
            }
            if one.finishedAt > now - within {
                return Decision(id: one.id, stays: true, reason: "younger than backup.keep.within")
            }
            if let slot = slots[one.id] { return Decision(id: one.id, stays: true, reason: slot) }
            if number < atLeast {
                return Decision(id: one.id, stays: true, reason: "one of the newest \(atLeast) backups")
            }
            return Decision(
                id: one.id, stays: false,
                reason: one.isProven
                    ? "not needed for any day, week or month" : "not proven, and older than a proven backup")
        }
    }

    private func slots(_ proven: [Candidate]) -> [String: String] {
        let rules: [(CalendarPeriod, String, Int)] = [
            (.day, "day", daily), (.week, "week", weekly), (.month, "month", monthly),
        ]
        var slots: [String: String] = [:]
        for (period, word, count) in rules {
            var newest = NewestOfPeriods()
            let kept = proven.filter { newest.isFirst($0.finishedAt, of: period) }.prefix(count)
            for one in kept where slots[one.id] == nil { slots[one.id] = "the newest proven backup of its \(word)" }
        }
        return slots
    }
}
