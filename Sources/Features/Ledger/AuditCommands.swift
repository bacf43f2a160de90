import Auditing
import Foundation
import Kernel
import Ledger
import Reporting

/// The commands `reeve audit …`.
enum AuditCommands {
    static let all = [verify, anchor]

    static let verify = CommandSpec(
        noun: "audit", verb: "verify",
        summary: "recompute the audit chain, and compare it with its anchors",
        discussion:
            "The hash of each entry includes the hash of the previous entry, so changes and gaps are detected. The "
            + "anchors are made with a key that is not stored in the database. They show whether the database's owner "
            + "has rewritten the chain, cut it off or started another one. Shows up to which entry the chain is "
            + "anchored, and in which places. Exits with 3 if anything contradicts the chain.",
        options: [
            .option("anchors", "FILE", "read more anchors from this file, for example a log", repeated: true)
        ]
    ) { invocation in
        var more: [String: [String]] = [:]
        for file in invocation.options("anchors") { more[file] = try lines(file) }
        return try await DatabaseScope.forEach(invocation) { [more] one, estate in
            let open = try await estate.open(one)
            let work = AuditWork(open: open, configuration: estate.configuration, logger: estate.logger)
            // A file may contain the anchors of several databases.
            let own = more.mapValues { lines in lines.filter { AuditAnchor($0)?.name == one.name } }
            let report = try await work.verify(more: own)
            return DatabaseScope.Report(report.json, report.text, report.isIntact ? .done : .finding)
        }
    }

    /// Returns the lines of a file that contain an anchor.
    private static func lines(_ file: String) throws -> [String] {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw UsageError("--anchors: '\(file)' cannot be read")
        }
        return data.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
            .filter { AuditAnchor($0) != nil }
    }

    static let anchor = CommandSpec(
        noun: "audit", verb: "anchor",
        summary: "record the end of the audit chain outside the database",
        discussion:
            "Writes the number and the hash of the last entry to the state folder, every repository and the log, "
            + "authenticated with the key in the file audit.key. The task 'anchor' does the same on a schedule. A "
            + "chain that contradicts an earlier anchor is not anchored, unless --accept gives the reason why the "
            + "chain is correct, for example after a restore.",
        options: [
            .option("accept", "REASON", "accept the chain as it is, and no longer compare it with earlier anchors"),
            .option("confirm", "DATABASE", "the database's name on the server, to skip the question"),
        ]
    ) { invocation in
        let estate = try invocation.estate()
        var lines: [String] = []
        var values: [JSONValue] = []
        for one in try estate.selected(invocation.option("database")) {
            let open = try await estate.open(one)
            let work = AuditWork(open: open, configuration: estate.configuration, logger: estate.logger)
            var reason = invocation.option("accept")
            if let given = reason {
                try invocation.confirm(
                    "the audit chain of '\(one.name)' would no longer be compared with earlier anchors",
                    name: try await open.serverName())
                reason = "\(Invocation.person): \(given)"
            }
            let done = try await work.anchor(accepting: reason)
            let anchor = done.anchor
            lines.append(
                "\(one.name): \(done.isNew ? "anchored" : "already anchored") up to entry \(anchor.entries) at "
                    + "\(anchor.at.rfc3339), with the key \(anchor.keyID), in "
                    + work.places.map(\.place).joined(separator: ", "))
            values.append([
                "database": .string(one.name), "entries": .int(Int(anchor.entries)), "at": .time(anchor.at),
                "key": .string(anchor.keyID), "new": .bool(done.isNew), "anchor": .string(anchor.text),
                "places": .array(work.places.map { .string($0.place) }),
            ])
        }
        invocation.console.result(["anchors": .array(values)], text: lines.joined(separator: "\n"))
        return .done
    }
}
