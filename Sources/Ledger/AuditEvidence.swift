import Postgres

/// What the anchors that were found are worth for one chain. Pure.
public struct AuditEvidence: Sendable, Equatable {
    /// Genuine, of this ledger, and not overruled by an acceptance.
    public private(set) var valid: [AuditAnchor] = []
    /// Genuine, of another ledger that stood in this database, and not overruled: the ledger was made anew.
    public private(set) var remade: [AuditAnchor] = []
    /// Lines that falsely claim to be made with this key, or that are no anchors at all.
    public private(set) var forged: [String] = []
    /// Made with another key.
    public private(set) var unknown: [AuditAnchor] = []
    /// Of another database.
    public private(set) var foreign: [AuditAnchor] = []
    /// What somebody who has the key said last, that this chain counts from there on.
    public private(set) var acceptance: AuditAnchor?

    /// - Parameters:
    ///   - lines: the texts that were found, as they were found.
    ///   - key: nil where it could not be read; then nothing is valid.
    ///   - name: the database's name in the configuration.
    public init(_ lines: some Sequence<String>, key: AuditKey?, identity: AuditIdentity, name: String) {
        var seen: Set<AuditAnchor> = []
        var genuine: [AuditAnchor] = []
        for line in lines {
            guard let anchor = AuditAnchor(line) else {
                forged.append(LedgerText.clean(line, limit: 80))
                continue
            }
            guard seen.insert(anchor).inserted else { continue }
            if anchor.keyID != key?.id {
                unknown.append(anchor)
            } else if let key, anchor.isGenuine(key) {
                genuine.append(anchor)
            } else {
                forged.append("entry \(anchor.entries), \(anchor.at.rfc3339)")
            }
        }
        unknown = unknown.filter { $0.identity.ledger == identity.ledger || $0.identity.isAtPlace(of: identity) }
        genuine.sort { ($0.at, $0.entries) < ($1.at, $1.entries) }
        acceptance = genuine.last { $0.kind == .accepted && $0.identity.ledger == identity.ledger }
        for anchor in genuine {
            if let acceptance, anchor.at < acceptance.at,
                anchor.identity.ledger == identity.ledger || anchor.identity.isAtPlace(of: identity)
            {
                continue
            }
            if anchor.identity.ledger == identity.ledger {
                valid.append(anchor)
            } else if anchor.name == name, anchor.identity.isAtPlace(of: identity) {
                remade.append(anchor)
            } else {
                foreign.append(anchor)
            }
        }
    }
}
