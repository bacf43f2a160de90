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
        summary: "compute the audit chain anew, and tell whether it is what was anchored",
        discussion:
            "Each entry is hashed with the one before it, so that a change or a gap shows; the anchors, made with a key "
            + "that the database does not hold, show whether its owner wrote the whole anew, cut it off or began another. "
            + "Tells how far the chain is anchored, and by what. Exit 3 when something speaks against it.",
        options: [
            .option("anchors", "FILE", "read further anchors from this file, as a log with them", repeated: true)
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
        summary: "write down outside the database how far the audit chain goes",
        discussion:
            "Writes the number and hash of the last entry, with a code made from the file audit.key, into the state "
            + "folder, every repository and the log. The task 'anchor' does so by itself. Nothing is anchored that "
            + "contradicts an earlier anchor, unless --accept says why it is right, as after a restore.",
        options: [
            .option("accept", "REASON", "take the chain as it is from here on, whatever earlier anchors say"),
            .option("confirm", "NAME", "the database's name, to accept without being asked"),
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
                try invocation.confirm("earlier anchors of '\(one.name)' will no longer be compared", name: one.name)
                reason = "\(Invocation.person): \(given)"
            }
            let done = try await work.anchor(accepting: reason)
            let anchor = done.anchor
            lines.append(
                "\(one.name): \(done.isNew ? "anchored" : "was anchored") up to entry \(anchor.entries) at "
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
