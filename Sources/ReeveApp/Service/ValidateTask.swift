import Catalog
import Foundation
import Ledger
import Migrations
import Postgres
import Scheduling
import Telemetry

/// The task that compares the database with its migrations, and writes what differs into the ledger.
enum ValidateTask {
    static let check = "drift"

    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        guard !open.systems.isEmpty else { return "no systems are configured" }
        let validator = try SchemaValidator(
            database: open.database, systems: open.systems, settings: ValidationSettings.make(configuration),
            logger: context.logger)
        let report = try await validator.validate()
        let findings = report.differences.map {
            Finding(
                system: $0.system, objectKind: $0.object.kind.name, object: $0.object.description,
                property: $0.property ?? "present", expected: $0.expected, found: $0.found)
        }
        let change = try await open.database.withDirectConnection(named: "reeve validate") { connection in
            try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                return try FindingLedger.record(findings, of: check, on: connection)
            }
        }
        let new = Set(change.new.map { "\($0.objectKind) \($0.object) \($0.property)" })
        for difference in report.differences
        where new.contains(
            "\(difference.object.kind.name) \(difference.object) \(difference.property ?? "present")")
        {
            context.logger.warning(
                "the schema differs from its migrations",
                [
                    LogField("system", difference.system ?? ""),
                    LogField("difference", DifferenceText.line(difference)),
                ])
        }
        let count = findings.count
        return
            "\(count) \(count == 1 ? "difference" : "differences"), \(change.new.count) new, \(change.cleared) cleared"
            + (report.ignored.isEmpty ? "" : ", \(report.ignored.count) ignored")
    }
}
