import Foundation
import Kernel
import Migrations
import Postgres
import Reporting
import Telemetry

/// The task that calls the functions that systems declare for their upkeep, for example one that makes the partitions
/// of the next months. Each call is a transaction of its own.
enum UpkeepTask {
    static let allow = Setting<[String]>(
        list: "upkeep.allow", .text,
        "Functions that delete rows and that the task 'upkeep' may call, as system/function. The system's system.yaml "
            + "declares them with `deletes: yes`.")
    static let skip = Setting<[String]>(
        list: "upkeep.skip", .text, "Functions that the task 'upkeep' does not call, as system/function.")

    static let keys = [allow.key, skip.key]

    static let spec = TaskSpec(
        "upkeep", "call the functions that systems declare for their upkeep", schedule: "35 * * * *",
        timeout: .seconds(3600), retries: 1, work: run)

    /// How long functions are called again until they return 0. What is left then waits for the next run.
    static let repeatLimit: Duration = .seconds(1800)

    /// The functions of a database's systems, sorted by whether they are to be called.
    struct Plan: Sendable {
        var calls: [UpkeepCall] = []
        /// The functions that are not called, by the reason.
        var skipped: [String: [String]] = [:]
        var problems: [String: UpkeepProblem] = [:]
    }

    static func plan(_ open: OpenDatabase, _ configuration: Configuration) async throws -> Plan {
        var plan = Plan()
        let declared = open.systems.compactMap { system in
            system[UpkeepSection.section].map { (system: system, functions: $0) }
        }
        let (allowed, left) = (configuration[allow], configuration[skip])
        for (system, functions) in declared {
            var options: Set<String>?
            for function in functions {
                let (name, entry) = ("\(system.name).\(function.name)", "\(system.name)/\(function.name)")
                if left.contains(entry) {
                    plan.skipped["in upkeep.skip", default: []].append(name)
                    continue
                }
                if function.deletes, !allowed.contains(entry) {
                    plan.skipped["not in upkeep.allow", default: []].append(name)
                    continue
                }
                if let option = function.option {
                    do {
                        if options == nil { options = try await appliedOptions(of: system, open.database) }
                    } catch let error as CancellationError {
                        throw error
                    } catch {
                        plan.problems[name] = UpkeepProblem(error)
                        continue
                    }
                    if options?.contains(option) != true {
                        plan.skipped["the opt-in migration '\(option)' is not applied", default: []].append(name)
                        continue
                    }
                }
                plan.calls.append(
                    UpkeepCall(
                        system: system.name, schema: system.schema, function: function,
                        trusted: configuration[CoreSettings.trustedRoles]))
            }
        }
        let known = declared.flatMap { system, functions in functions.map { "\(system.name)/\($0.name)" } }
        // A system that this database does not have may be one of another database.
        let systems = configuration.databases.count > 1 ? open.systems.map(\.name) : nil
        for entry in allowed + left where !known.contains(entry) {
            if let systems, !systems.contains(where: { entry.hasPrefix("\($0)/") }) { continue }
            plan.problems[entry] = UpkeepProblem(
                message: "upkeep.allow or upkeep.skip names it, but no system declares it",
                hint: didYouMean(entry, among: known)
                    ?? (known.isEmpty ? "remove it" : "declared: \(known.joined(separator: ", "))"))
        }
        return plan
    }

    /// Each system is read alone, so that a mistake in the migrations of one does not affect the others.
    private static func appliedOptions(of system: System, _ database: Database) async throws -> Set<String> {
        let migrations = MigrationSystem(
            name: system.name, schema: system.schema, folder: system.folder, options: system.options)
        let status = try await Migrator(database: database, systems: [migrations]).status()
        return status.reduce(into: []) { $0.formUnion($1.appliedOptions) }
    }

    @Sendable
    private static func run(_ call: TaskCall) async throws -> String {
        try await run(call.open, call.configuration, call.logger, until: .now + repeatLimit)
    }

    /// Calls each function once, and then those that are to be repeated, in turns. So one that fails, or never ends,
    /// holds up no other.
    static func run(
        _ open: OpenDatabase, _ configuration: Configuration, _ logger: Logger, until end: ContinuousClock.Instant
    ) async throws -> String {
        let plan = try await plan(open, configuration)
        var (problems, skipped) = (plan.problems, plan.skipped)
        var totals = plan.calls.map { Total(name: $0.name) }
        var waiting = Array(plan.calls.indices)
        while !waiting.isEmpty {
            var again: [Int] = []
            for index in waiting {
                try Task.checkCancellation()
                let one = plan.calls[index]
                do {
                    guard let outcome = try await one.perform(on: open.database) else {
                        skipped["the system's schema does not exist", default: []].append(one.name)
                        continue
                    }
                    totals[index].add(outcome)
                    if one.function.repeats, outcome.number != 0 { again.append(index) }
                } catch let error as CancellationError {
                    throw error
                } catch {
                    problems[one.name] = UpkeepProblem(error)
                    logger.warning(
                        "a function for upkeep failed", [LogField("function", one.name), LogField("error", "\(error)")])
                }
            }
            if !again.isEmpty, ContinuousClock.now >= end {
                for index in again { totals[index].hasMore = true }
                break
            }
            waiting = again
        }
        let left = skipped.sorted { $0.key < $1.key }.map { "not called: \($1.joined(separator: ", ")) (\($0))" }
        let done = totals.compactMap(\.text) + left
        guard problems.isEmpty else {
            let found = problems.sorted { $0.key < $1.key }.map { "\($0): \($1.message) (hint: \($1.hint))" }
            throw TaskFinding((found + done).joined(separator: "; "))
        }
        return done.isEmpty ? "no system declares a function for upkeep" : done.joined(separator: "; ")
    }

    /// The calls of one function in a run.
    private struct Total {
        let name: String
        var calls = 0
        var count: Int?
        var hasMore = false

        mutating func add(_ outcome: UpkeepCall.Outcome) {
            calls += 1
            if let number = outcome.number { count = (count ?? 0) &+ number }
        }

        /// nil if the function was not called.
        var text: String? {
            guard calls > 0 else { return nil }
            return "\(name): " + (count.map { "\($0)" } ?? "called") + (calls > 1 ? " in \(calls) calls" : "")
                + (hasMore ? ", more is left" : "")
        }
    }

    // MARK: Checks

    /// Finds entries that are not written as system/function.
    @Sendable
    static func mistakes(_ configuration: Configuration) -> [ConfigurationError] {
        [allow, skip].flatMap { setting in
            configuration[setting].compactMap { entry in
                let parts = entry.split(separator: "/", omittingEmptySubsequences: false)
                if parts.count == 2, !parts.contains("") { return nil }
                return ConfigurationError(
                    "\(configuration.origin(setting))", nil, "'\(entry)' is not of the form system/function")
            }
        }
    }

    /// The check of `reeve doctor`. It calls no function.
    static let check = Check(
        "upkeep", "the functions that systems declare for their upkeep exist and can be called"
    ) { call in
        guard let open = call.open else { return [] }
        let plan = try await plan(open, call.estate.configuration)
        var problems = plan.problems
        for one in plan.calls {
            do {
                try await open.database.pool.with { try one.check(on: $0) }
            } catch let error as UpkeepProblem {
                problems[one.name] = error
            }
        }
        return problems.sorted { $0.key < $1.key }.map {
            Finding("upkeep of \(call.database.name)", .error, "\($0): \($1.message)", mend: $1.hint)
        }
    }
}

extension UpkeepProblem: CustomStringConvertible {
    var description: String { "\(message) (hint: \(hint))" }

    /// The problem that an error of a call means.
    init(_ error: any Error) {
        if let problem = error as? UpkeepProblem {
            self = problem
            return
        }
        let hint: String
        switch (error as? PostgresError)?.sqlState {
        case "55P03": hint = "another session holds a lock; the next run tries again"
        case "57014": hint = "raise 'timeout' of the function in system.yaml, or let it work in smaller batches"
        default: hint = ErrorReport(error).hint ?? "correct the function; 'reeve task run upkeep' tries again"
        }
        self.init(message: "\(error)", hint: hint)
    }
}
