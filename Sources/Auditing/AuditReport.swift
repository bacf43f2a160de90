import Foundation
import Kernel
import Ledger
import Reporting

/// The result of `reeve audit verify` for one database.
public struct AuditReport: Sendable {
    public let name: String
    public let chain: Audit.Verification
    /// What is wrong with the chain or with the anchors. The chain counts as intact only if there are no problems.
    private(set) var problems: [String] = []
    /// What could not be checked, for instance a place that did not answer. These are not problems.
    private(set) var notChecked: [String] = []
    /// Further facts that are not problems.
    private(set) var notes: [String] = []
    private(set) var anchored: AuditAnchor?
    private(set) var acceptance: AuditAnchor?
    /// The number of anchors in each place that are valid and agree with the chain, and the newest of them.
    private(set) var vouching: [(place: String, anchors: Int, newest: AuditAnchor)] = []

    public var isIntact: Bool { chain.isIntact && problems.isEmpty }
    /// The number of entries after the newest anchor.
    var unanchored: Int64 { chain.entries - (anchored?.entries ?? 0) }

    /// Makes the report on a database without a ledger.
    init(name: String) {
        self.name = name
        chain = Audit.Verification()
    }

    init(
        name: String, chain: Audit.Verification, evidence: AuditEvidence, found: AuditWork.Found, keyProblem: String?
    ) {
        self.name = name
        self.chain = chain
        anchored = chain.anchored
        acceptance = evidence.acceptance
        judgeChain(evidence)
        judgeAnchors(evidence, keyProblem)
        for (place, reason) in found.failed { notChecked.append("\(place): \(reason)") }
        let fitting = Set(evidence.valid).subtracting(chain.contradicted).subtracting(chain.beyond)
        for (place, lines) in found.byPlace.sorted(by: { $0.key < $1.key }) {
            let anchors = lines.compactMap { AuditAnchor($0) }.filter { fitting.contains($0) }
            guard let newest = anchors.max(by: { ($0.entries, $0.at) < ($1.entries, $1.at) }) else { continue }
            vouching.append((place, anchors.count, newest))
        }
        // If other places have anchors and this place has none, the anchors were removed from this place, or have not
        // been written to it yet.
        for (place, lines) in found.byPlace.sorted(by: { $0.key < $1.key }) where anchored != nil && lines.isEmpty {
            notes.append("\(place) has no anchor of this chain, but other places do")
        }
    }

    private mutating func judgeChain(_ evidence: AuditEvidence) {
        if !chain.isConsistent {
            problems.append(
                "entry \(chain.entries + 1) does not follow from the previous entry, is missing, or is not the "
                    + "recorded end"
            )
        }
        if let first = chain.contradicted.first {
            problems.append(
                "the chain was rewritten: entry \(first.entries) differs from the one that was anchored at "
                    + "\(first.at.rfc3339) (\(counted(chain.contradicted.count, "anchor")))")
        }
        if let last = chain.beyond.max(by: { $0.entries < $1.entries }) {
            problems.append(
                "the chain was cut off: it had \(counted(last.entries, "entry", "entries")) at \(last.at.rfc3339), and "
                    + "now has \(chain.entries)"
            )
        }
        if let remade = evidence.remade.last {
            problems.append(
                "the ledger was replaced: at \(remade.at.rfc3339), the database had another ledger, "
                    + "\(remade.identity.ledger.uuidString.lowercased()), with "
                    + "\(counted(remade.entries, "entry", "entries"))"
            )
        }
    }

    private mutating func judgeAnchors(_ evidence: AuditEvidence, _ keyProblem: String?) {
        if !evidence.forged.isEmpty {
            problems.append(
                "\(counted(evidence.forged.count, "anchor")) \(evidence.forged.count == 1 ? "was" : "were") forged or "
                    + "changed: "
                    + evidence.forged.prefix(3).joined(separator: "; "))
        }
        let unknown = evidence.unknown
        if !unknown.isEmpty {
            let keys = Set(unknown.map(\.keyID)).sorted().joined(separator: ", ")
            let text =
                "\(counted(unknown.count, "anchor")) made with the key \(keys): "
                + "\(keyProblem ?? "this key is not available")"
            // If no anchor could be checked, nothing confirms the chain.
            if evidence.valid.isEmpty { problems.append(text) } else { notChecked.append(text) }
        } else if let keyProblem {
            notChecked.append("anchors: \(keyProblem)")
        }
        if !evidence.foreign.isEmpty {
            notes.append("ignored \(counted(evidence.foreign.count, "anchor")) of another database with this name")
        }
    }

    // MARK: Output

    public var text: String {
        var lines: [String] = []
        if let broken = chain.brokenAt {
            lines.append("\(name): the audit chain is broken at entry \(broken)")
        } else if !problems.isEmpty {
            lines.append(
                "\(name): the audit chain is consistent (\(counted(chain.entries, "entry", "entries"))), but not "
                    + "proven to be intact"
            )
        } else {
            lines.append("\(name): the audit chain is intact, \(counted(chain.entries, "entry", "entries"))")
        }
        lines += problems.map { "  \($0)" }
        if let anchored {
            lines.append(
                "  anchored up to entry \(anchored.entries), at \(anchored.at.rfc3339), with the key "
                    + "\(anchored.keyID), by:"
            )
            lines += vouching.map {
                "    \($0.place): \(counted($0.anchors, "anchor")), up to entry \($0.newest.entries) at "
                    + "\($0.newest.at.rfc3339)"
            }
            if unanchored > 0 {
                lines.append("  not anchored yet: the last \(counted(unanchored, "entry", "entries"))")
            }
        } else if chain.entries > 0 {
            lines.append(
                "  not anchored: the owner of the schema could have rewritten the chain; run 'reeve audit anchor'")
        }
        if let acceptance {
            lines.append(
                "  accepted at \(acceptance.at.rfc3339) with \(counted(acceptance.entries, "entry", "entries")), so "
                    + "not compared with earlier anchors: \(acceptance.note)")
        }
        lines += notChecked.map { "  not checked: \($0)" } + notes.map { "  note: \($0)" }
        return lines.joined(separator: "\n")
    }

    public var json: JSONValue {
        [
            "database": .string(name), "intact": .bool(isIntact), "entries": .int(Int(chain.entries)),
            "broken_at": .int(chain.brokenAt.map { Int($0) }),
            "anchored_to": .int(anchored.map { Int($0.entries) }), "anchored_at": .time(anchored?.at),
            "key": .string(anchored?.keyID), "not_anchored": .int(Int(unanchored)),
            "anchors": .array(
                vouching.map {
                    [
                        "place": .string($0.place), "anchors": .int($0.anchors),
                        "entries": .int(Int($0.newest.entries)),
                        "at": .time($0.newest.at),
                    ]
                }),
            "accepted": acceptance.map {
                ["at": .time($0.at), "entries": .int(Int($0.entries)), "note": .string($0.note)]
            } ?? .null,
            "problems": .array(problems.map { .string($0) }), "not_checked": .array(notChecked.map { .string($0) }),
            "notes": .array(notes.map { .string($0) }),
        ]
    }
}

extension AuditWork {
    /// Checks the chain against all anchors that can be read. Creates nothing, not even a key.
    ///
    /// - Parameter more: lines with further anchors, for example from a log, by their source.
    public func verify(more: [String: [String]] = [:]) async throws -> AuditReport {
        let isInstalled = try await open.database.pool.with { try LedgerSchema.isInstalled(on: $0) }
        let keyFile = keyFile
        var key: SigningKey?
        var keyProblem: String?
        do {
            key = try await withinLimit(limit, place: keyFile.file.path) { try keyFile.read() }
            if key == nil { keyProblem = "the key file \(keyFile.file.path) does not exist" }
        } catch {
            keyProblem = "\(error)"
        }
        // Anchors are read before the chain, so that the chain already contains every anchored entry.
        var found = await texts()
        found.byPlace.merge(more) { $0 + $1 }
        guard isInstalled else {
            var report = AuditReport(name: open.name)
            report.noteMissingLedger(found, key)
            return report
        }
        let evidence = AuditEvidence(found.lines, key: key, identity: try await identity(), name: open.name)
        let chain = try await verified(evidence.valid)
        if key == nil, found.lines.isEmpty { keyProblem = nil }
        return AuditReport(name: open.name, chain: chain, evidence: evidence, found: found, keyProblem: keyProblem)
    }
}

extension AuditReport {
    /// Adds a problem if the ledger does not exist, but genuine anchors show that it existed.
    fileprivate mutating func noteMissingLedger(_ found: AuditWork.Found, _ key: SigningKey?) {
        let genuine = found.lines.compactMap { AuditAnchor($0) }.filter { anchor in key.map(anchor.isGenuine) ?? false }
        guard let last = genuine.filter({ $0.name == name }).max(by: { $0.at < $1.at }) else { return }
        problems.append(
            "the ledger does not exist; at \(last.at.rfc3339), '\(name)' had a ledger with "
                + "\(counted(last.entries, "entry", "entries")), in the database '\(last.identity.database)'")
    }
}
