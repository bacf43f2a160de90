import Catalog
import Foundation
import Kernel
import Ledger
import Migrations
import Postgres
import Reporting
import Telemetry

/// The task that compares the database with its migrations, and records the differences in the ledger.
enum ValidateTask {
    static let check = "drift"

    static let spec = TaskSpec(
        // Not at the full hour, because migrations are applied then.
        "validate", "compare the schema with the migrations", schedule: "10 * * * *",
        timeout: .seconds(600), retries: 2, work: run)

    private static func run(_ call: TaskCall) async throws -> String {
        let open = call.open
        guard !open.systems.isEmpty else { return "no systems are configured" }
        let validator = try SchemaValidator(
            database: open.database, systems: open.systems.map(\.migrations),
            settings: ValidationSettings.make(call.configuration),
            logger: call.logger)
        let report = try await validator.validate()
        let findings = report.differences.map {
            FindingRecord(
                system: $0.system, objectKind: $0.object.kind.name, object: $0.object.description,
                property: $0.property ?? "present", expected: $0.expected, found: $0.found)
        }
        let edited = report.migrations.map { system, finding in
            FindingRecord(
                system: system, objectKind: "migration", object: finding.subject, property: "present", expected: nil,
                found: finding.evidence)
        }
        let change = try await open.database.withDirectConnection(named: "reeve validate") { connection in
            try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                return try FindingLedger.record(findings + edited, of: check, on: connection)
            }
        }
        let new = Set(change.new.map { "\($0.objectKind) \($0.object) \($0.property)" })
        for difference in report.differences
        where new.contains(
            "\(difference.object.kind.name) \(difference.object) \(difference.property ?? "present")")
        {
            call.logger.warning(
                "the schema differs from its migrations",
                [
                    LogField("system", difference.system ?? ""),
                    LogField("difference", DifferenceText.line(difference)),
                ])
        }
        for (system, finding) in report.migrations
        where new.contains("migration \(finding.subject) present") {
            call.logger.warning(
                "a migration differs from the ledger",
                [LogField("system", system), LogField("problem", finding.evidence)])
        }
        let count = findings.count + edited.count
        return
            "\(counted(count, "difference")), \(change.new.count) new, \(change.cleared) cleared"
            + (report.ignored.isEmpty ? "" : ", \(report.ignored.count) ignored")
    }
}
