import Foundation
import Postgres
import Scheduling
import Telemetry
import TestSupport
import Testing

@testable import BackupsFeature
@testable import Kernel
@testable import LedgerFeature
@testable import MigrationsFeature
@testable import ReeveApp

/// What people may write where a number, a duration or a time is wanted: nothing of it may end the process.
@Suite(.timeLimit(.minutes(3)))
struct ExtremeValueTests {
    static let extremes = [
        "0", "-0", "-1", "1", "+1", "9", "3650d", "3651d", "87600h", "999999999", "999999999d", "200000000d", "24d",
        "25d",
        "999999999999d", "9999999999999999999", "-9223372036854775808", "9223372036854775807", "9223372036854775807d",
        "18446744073709551616", "1e400", "nan", "inf", "-inf", "0x7fffffffffffffff", "٣", "１２", "1 d", "1d ", "",
        " ", "\u{0}", "e\u{301}", "1\u{301}d", String(repeating: "9", count: 5000), "999999-01-01",
        "999999-12-31T23:59:59Z",
        "0000-00-00", "294276-12-31 23:59:59.999999+00", "9999-12-31T23:59:59.999999Z", "infinity", "-infinity",
        "0001-01-01", "4714-11-24 BC", "2026-02-30", "2026-03-29T25:00:00Z", "2026-03-29T01:00:00+99:99:99",
        "*/9223372036854775807 * * * *", "0-59/9223372036854775807 * * * *", "* * * * 9223372036854775808", "100%",
        "-1%", "1e-400%", "s3://b?lock=compliance:9223372036854775807d",
    ]

    @Test func `every key of the configuration takes or refuses every extreme`() throws {
        for key in FeatureList.reeve.settings.keys {
            for value in Self.extremes where !value.isEmpty {
                var store = SettingStore(FeatureList.reeve.settings)
                let path = key.path.map { $0 == "*" ? "analyze" : $0 }
                guard (try? store.set(path, [value], .flag("test"))) != nil else { continue }
                let text = try #require(store.texts(path.joined(separator: ".")).first)
                guard let duration = WrittenDuration.parse(text) else { continue }
                #expect(duration <= .seconds(3650 * 86400) && duration >= .zero)
                _ = ContinuousClock.now + duration * 1024
                #expect(duration.milliseconds >= 0)
            }
        }
    }

    /// The variables of the environment that set keys of the configuration.
    static let names = FeatureList.reeve.settings.keys.map {
        SettingKey.environmentName($0.path.map { $0 == "*" ? "ANALYZE" : $0 })
    }.filter { !$0.hasPrefix("REEVE_DATABASE") && $0 != "REEVE_SYSTEMS" }

    @Test(arguments: names)
    func `what the configuration takes the tasks, limits and backups can work with`(name: String) throws {
        let path = "/tmp/reeve-extreme-\(UUID().uuidString.prefix(8)).yaml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "".write(toFile: path, atomically: true, encoding: .utf8)
        for value in Self.extremes where !value.isEmpty && !value.contains("\0") {
            let loaded = Result { try FeatureList.reeve.configuration(path: path, environment: [name: value]) }
            guard case .success(let configuration) = loaded else { continue }
            _ = configuration.poolLimits
            _ = BackupSettings.maker(configuration)
            _ = try? BackupSettings.repositories(configuration)
            _ = BackupSettings.retention(configuration).decide([], now: .now)
            _ = LedgerSettings.retention(configuration)
            _ = MigratorSettings.make(configuration)
            for task in (try? FeatureList.reeve.plans(configuration, isEmbedded: true)) ?? [] {
                _ = task.schedule.next(after: Int(Date().timeIntervalSince1970))
                _ = task.schedule.times(from: Schedule.instants.upperBound, count: 3)
            }
        }
    }

    /// Every option of every command that has a value, given each extreme, as far as it is read before anything is
    /// done.
    @Test func `every option is read`() throws {
        for spec in FeatureList.reeve.commands {
            for option in spec.options + OptionSpec.global where option.value != nil {
                for value in Self.extremes {
                    let console = Console(isJSON: false, environment: [:])
                    var arguments = ParsedArguments()
                    arguments.values = [option.name: [value]]
                    let invocation = Invocation(
                        arguments: arguments, console: console, environment: [:],
                        interruption: Interruption(console: console, standing: ""), features: .reeve)
                    if let duration = try? invocation.duration(option.name) { _ = ContinuousClock.now + duration }
                    _ = try? invocation.integer(option.name, in: 1...10_000)
                }
            }
        }
    }

    @Test func `times are read or refused, and what is read is written`() throws {
        for value in Self.extremes {
            guard let time = try? Timestamp.fromPostgres(value) else { continue }
            _ = (time.rfc3339, time.postgresText, time.date, time.secondsSince1970)
        }
        for microseconds in [Int64.min, .min + 1, -1, 0, 1, .max - 1, .max] {
            let time = Timestamp(microseconds: microseconds)
            _ = (time.rfc3339, time.postgresText, Timestamp(time.date))
        }
        for date in [
            Date.distantPast, .distantFuture, Date(timeIntervalSince1970: .infinity), Date(timeIntervalSince1970: .nan),
        ] {
            _ = Timestamp(date).rfc3339
        }
        #expect(Timestamp(seconds: .max) == nil && Timestamp(seconds: .min) == nil)
        #expect(throws: PostgresError.self) { try Timestamp.fromPostgres("999999-01-01") }
        #expect(throws: PostgresError.self) { try Timestamp.fromPostgres("2026-02-30") }
        #expect(throws: PostgresError.self) { try Timestamp.fromPostgres("2026-03-29T25:00:00Z") }
    }

    /// The program itself: a usage error with the range, never a signal.
    @Test(arguments: [
        (["task", "next", "* * * * *", "--from", "999999-01-01"], "RFC 3339"),
        (["task", "next", "* * * * *", "--from", "294246-12-31"], "between the years 0001 and 9999"),
        (["task", "next", "* * * * *", "--from", "infinity"], "between the years 0001 and 9999"),
        (["task", "next", "* * * * *", "--count", "9223372036854775808"], "1 to 10000"),
        (["backup", "create", "--lock-wait", "999999999d"], "0s to 3650d"),
        (["migrate", "up", "--system", "publisher", "--lock-wait", "200000000d"], "0s to 3650d"),
    ])
    func `the program says what may be written`(arguments: [String], said: String) async throws {
        let outcome = try await ReeveBinary.run(
            arguments, environment: ["REEVE_STATE": "/tmp/reeve-none", "DATABASE_URL": "postgresql://127.0.0.1:1/none"])
        #expect(outcome.ending == .exited(2), "\(outcome.errorOutput)")
        #expect(outcome.errorOutput.contains(said), "\(outcome.errorOutput)")
    }

    @Test func `the program refuses a configuration whose numbers are too large`() async throws {
        for (name, value) in [
            ("REEVE_TASKS_ANALYZE_EVERY", "200000000d"), ("REEVE_DRAIN", "999999999d"),
            ("REEVE_POOL_WAIT", "999999999d"),
            ("REEVE_BACKUP_BANDWIDTH", "9223372036854775807"), ("REEVE_MIGRATE_LOCK_TIMEOUT", "25d"),
            ("REEVE_LEDGER_KEEP_RUNS", "1h"),
        ] {
            let outcome = try await ReeveBinary.run(["config", "check"], environment: [name: value])
            #expect(outcome.ending == .exited(2), "\(name)=\(value)")
            #expect(outcome.errorOutput.contains(" to "), "\(outcome.errorOutput)")
        }
    }
}
