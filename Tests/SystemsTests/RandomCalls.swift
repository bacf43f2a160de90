import Foundation
import Postgres
import Synchronization
import TestSupport
import Testing

/// A model-based test: random calls of a system's functions on many connections at once, with the system's invariants
/// checked beside them.
///
/// `REEVE_MODEL_CALLS` sets the number of calls. The seed of each connection follows from `seed`, but how the calls of
/// the connections interleave does not, so a violation may not come again with the same seed.
struct RandomCalls: Sendable {
    /// A kind of call. `weight` says how often it is chosen, relative to the others.
    struct Call: Sendable {
        let name: String
        let weight: Int
        let body: @Sendable (isolated Connection, inout SeededGenerator) throws -> Void

        init(
            _ name: String, weight: Int = 1,
            _ body: @escaping @Sendable (isolated Connection, inout SeededGenerator) throws -> Void
        ) {
            (self.name, self.weight, self.body) = (name, weight, body)
        }
    }

    /// What must hold: a query that returns a row for each violation. The rows are shown.
    struct Invariant: Sendable {
        let name: String
        let query: String
        /// Whether it holds only when no call is running.
        let isFinal: Bool

        init(_ name: String, final: Bool = false, _ query: String) {
            (self.name, self.query, self.isFinal) = (name, query, final)
        }
    }

    /// The schema of the system, which is the search path of all calls and queries.
    let schema: String
    let calls: [Call]
    let invariants: [Invariant]
    /// The SQLSTATEs with which calls may be refused. A deadlock, 40P01, is always a violation.
    var refusals: Set<String> = []
    var connections = 20
    var seed: UInt64 = 1

    /// The number of calls of all connections together.
    var count = Self.defaultCount

    static let defaultCount = ProcessInfo.processInfo.environment["REEVE_MODEL_CALLS"].flatMap { Int($0) } ?? 2_000

    /// Runs the calls in the test's database, and fails the test for each violation, and for each kind of call that was
    /// always refused.
    func run() async throws {
        let (counts, violations) = try await outcome()
        for violation in violations { Issue.record("\(violation)") }
        for call in calls where count >= 1_000 {
            #expect((counts[call.name]?.done ?? 0) > 0, "no call of \(call.name) was done")
        }
    }

    /// Runs the calls.
    ///
    /// - Returns: how often each kind of call was done and refused; the violations.
    func outcome() async throws -> (counts: [String: (done: Int, refused: Int)], violations: [String]) {
        let database = try TestDatabase.current
        let tally = Tally(calls: count)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<connections {
                group.addTask {
                    try await database.with {
                        try work(on: $0, seed: seed &+ UInt64(number) &* 0xD1B5_4A32_D192_ED03, tally)
                    }
                }
            }
            group.addTask {
                try await database.with { connection in
                    while tally.isRunning { try check(invariants.filter { !$0.isFinal }, connection, tally) }
                }
            }
            try await group.waitForAll()
        }
        try await database.with { try check(invariants, $0, tally) }
        return (tally.counts, tally.violations)
    }

    private func work(on connection: isolated Connection, seed: UInt64, _ tally: Tally) throws {
        try connection.execute("SET search_path = \(schema); SET deadlock_timeout = '100ms'")
        let wheel = calls.flatMap { Array(repeating: $0, count: $0.weight) }
        var generator = SeededGenerator(seed)
        while tally.next(), let call = wheel.randomElement(using: &generator) {
            do {
                try call.body(connection, &generator)
                tally.add(call.name, isRefused: false)
            } catch let error as PostgresError where refusals.contains(error.sqlState ?? "") {
                tally.add(call.name, isRefused: true)
            } catch let error as PostgresError where error.sqlState != nil {
                tally.violated("\(call.name): \(error.sqlState ?? "") \(error.message) \(error.detail ?? "")")
            }
        }
    }

    /// All invariants see the same snapshot.
    private func check(_ invariants: [Invariant], _ connection: isolated Connection, _ tally: Tally) throws {
        try connection.execute("SET search_path = \(schema)")
        try connection.transaction(TransactionOptions(isolation: .repeatableRead, readOnly: true)) {
            for invariant in invariants {
                for row in try connection.query("SELECT t::text FROM (\(invariant.query)) t LIMIT 5") {
                    tally.violated("\(invariant.name): \(try row.get(0, as: String.self))")
                }
            }
        }
    }
}

/// What the connections of a model-based test have done.
private final class Tally: Sendable {
    private let left: Mutex<Int>
    private let results = Mutex<[String: (done: Int, refused: Int)]>([:])
    private let found = Mutex<[String]>([])
    /// The violations that are kept.
    private static let limit = 20

    init(calls: Int) { left = Mutex(calls) }

    var isRunning: Bool { left.withLock { $0 > 0 } && violations.count < Self.limit }
    var counts: [String: (done: Int, refused: Int)] { results.withLock { $0 } }
    var violations: [String] { found.withLock { $0 } }

    /// Takes one of the calls; false if none is left, or if there are violations enough.
    func next() -> Bool {
        guard violations.count < Self.limit else { return false }
        return left.withLock {
            $0 -= 1
            return $0 >= 0
        }
    }

    func add(_ name: String, isRefused: Bool) {
        results.withLock {
            let (done, refused) = $0[name] ?? (0, 0)
            $0[name] = isRefused ? (done, refused + 1) : (done + 1, refused)
        }
    }

    func violated(_ text: String) {
        found.withLock { if $0.count < Self.limit, !$0.contains(text) { $0.append(text) } }
    }
}
