import Kernel
import Ledger
import Postgres
import Reporting
import Telemetry

/// A feature as a stranger would add it: a folder with this file, and a line in the list.
extension Feature {
    static let toy = Feature(
        "toy", commands: [ToyCommand.spec], settings: [ToyCommand.greeting.key, ToyCommand.times.key],
        sections: [ToySection.section.key], tasks: [ToyTask.spec], collectors: [ToyMetrics.collector],
        checks: [ToyCheck.check], ledger: [ToyLedger.part], errors: [ToyError.self])
}

enum ToyCommand {
    static let greeting = Setting("toy.greeting", .text, default: "hello", "What the toy says.")
    static let times = Setting<Int?>("toy.times", .integer(1...3), "How often it says so; without it, once.")

    static let spec = CommandSpec(
        noun: "toy", verb: "greet", summary: "greet somebody", arguments: [ArgumentSpec(name: "NAME", help: "who")]
    ) { invocation in
        let configuration = try invocation.configuration()
        let line = "\(configuration[greeting]), \(invocation.arguments.positional[0])"
        let lines = Array(repeating: line, count: configuration[times] ?? 1)
        invocation.console.result(["greetings": .array(lines.map { .string($0) })], text: lines.joined(separator: "\n"))
        return .done
    }
}

enum ToySection {
    static let section = SystemSection<[String]>("toys", "The toys of the system.", example: "toys: [ball]") {
        try $0.words("toys", $1)
    }
}

enum ToyTask {
    static let spec = TaskSpec(
        "play", "play with the toys of the systems", schedule: "@daily", timeout: .seconds(60), retries: 0
    ) { call in
        "played with \(call.open.systems.flatMap { $0[ToySection.section] ?? [] }.joined(separator: ", "))"
    }
}

enum ToyMetrics {
    static let count = MetricDescription("reeve_toys", .gauge, "Toys that there are.", labels: ["database"])

    static let collector = Collector("toys", families: [count]) { open, sample in
        let toys: Int = try await open.database.pool.with { try $0.query("SELECT 3").first?.get(0) ?? 0 }
        sample.set(count, Double(toys), open.name)
    }
}

enum ToyCheck {
    static let check = Check("toys", "toys are not broken") { call in
        [Finding("toys of \(call.database.name)", .warning, "one is broken", mend: "glue it")]
    }
}

enum ToyLedger {
    static let part = LedgerPart(
        "toys",
        [
            "CREATE TABLE reeve.toys (name text PRIMARY KEY);",
            "ALTER TABLE reeve.toys ADD COLUMN broken boolean NOT NULL DEFAULT false;",
        ])

    static func record(_ name: String, on connection: isolated Connection) throws {
        try connection.query("INSERT INTO reeve.toys (name) VALUES ($1)", [name])
    }
}

struct ToyError: ReportedError {
    static let codes = [ErrorCode("toy", [.finding], "A toy is broken.")]

    let description = "the ball is broken"
    var report: ErrorReport { ErrorReport(description, code: "toy", hint: "glue it", exitCode: .finding) }
}
