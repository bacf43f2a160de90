import Postgres

/// The anchors that were found, sorted by what they prove about one chain. Pure: no I/O.
public struct AuditEvidence: Sendable, Equatable {
    /// Genuine anchors of this ledger that are not older than `acceptance`.
    public private(set) var valid: [AuditAnchor] = []
    /// Genuine anchors of an earlier ledger in the same database that are not older than `acceptance`. They show that
    /// the ledger was created again.
    public private(set) var remade: [AuditAnchor] = []
    /// Lines that are not anchors, and anchors that name this key but have a wrong signature.
    public private(set) var forged: [String] = []
    /// Anchors of this ledger or of this database that were signed with another key.
    public private(set) var unknown: [AuditAnchor] = []
    /// All other genuine anchors, such as those of other databases.
    public private(set) var foreign: [AuditAnchor] = []
    /// The newest anchor of the kind `accepted`, with which a holder of the key accepted this chain. Earlier anchors do
    /// not count.
    public private(set) var acceptance: AuditAnchor?

    /// - Parameters:
    ///   - lines: the texts of the anchors, as they were found.
    ///   - key: nil if the key could not be read; then no anchor is valid.
    ///   - name: the name of the database in the configuration.
    public init(_ lines: some Sequence<String>, key: SigningKey?, identity: AuditIdentity, name: String) {
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
