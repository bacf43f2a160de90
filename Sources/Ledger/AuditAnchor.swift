import Foundation
import Hashing
import Postgres

/// Identifies the ledger that a chain belongs to, by the ledger's own identifier, its server and its database.
public struct AuditIdentity: Sendable, Hashable {
    /// A random identifier that is created with the ledger. A copy of the ledger has the same identifier.
    public let ledger: UUID
    /// The server's system identifier, which SQL cannot change; `-` if the role may not read it.
    public let server: String
    /// The database's name on its server.
    public let database: String

    public init(ledger: UUID, server: String, database: String) {
        self.ledger = ledger
        self.server = server
        self.database = database
    }

    /// Whether both identities have the same database name on the same server.
    func isAtPlace(of other: AuditIdentity) -> Bool { server == other.server && database == other.database }
}

/// A signed record of the state of a chain: the number of its entries at a time, and the hash of the last entry.
/// Signing requires the key.
///
/// An anchor is stored where the owner of the database cannot write. It can later prove that the chain still begins
/// with the same entries. The text of an anchor is one line, whose last word is the HMAC-SHA256 of the text before that
/// word. The text itself is signed, as in the signed notes of transparency logs (https://c2sp.org/tlog-checkpoint).
public struct AuditAnchor: Sendable, Hashable {
    public enum Kind: String, Sendable {
        case anchor
        /// A holder of the key accepts the chain as it is. Earlier anchors no longer count.
        case accepted
    }

    public let kind: Kind
    public let identity: AuditIdentity
    /// The name of the database in the configuration.
    public let name: String
    public let entries: Int64
    /// The hash of the last entry; zeros if there is none.
    public let hash: [UInt8]
    /// The time on the clock of the machine that made the anchor.
    public let at: Timestamp
    /// For the kind `accepted`, who accepted the chain and why; empty for other anchors.
    public let note: String
    public let keyID: String
    private let code: [UInt8]

    /// The first word of an anchor's text. It also marks the start of an anchor in a line of a log.
    public static let label = "reeve-audit-anchor/1"

    /// Creates and signs an anchor.
    public init(
        _ kind: Kind = .anchor, of identity: AuditIdentity, name: String, entries: Int64, hash: [UInt8],
        at: Timestamp = .now, note: String = "", key: SigningKey
    ) {
        self.kind = kind
        self.identity = identity
        self.name = name
        self.entries = entries
        self.hash = hash
        // The text contains `at` to the microsecond, so an anchor that is parsed from its text is equal to the
        // original.
        self.at = at
        self.note = note
        keyID = key.id
        code = key.code(of: Self.text(kind, identity, name, entries, hash, at, note, key.id).utf8)
    }

    /// Parses the text of an anchor. Text before and after the anchor is ignored, for instance in a line of a log.
    ///
    /// - Returns: nil if the line does not contain an anchor. `isGenuine` checks the signature.
    public init?(_ line: String) {
        guard let start = Self.firstRange(of: Self.label, in: line) else { return nil }
        let words = line.utf8[start...].split(separator: UInt8(ascii: " "), maxSplits: Self.words - 1).map {
            String(Substring($0))
        }
        guard words.count == Self.words, words[0] == Self.label, let kind = Kind(rawValue: words[1]),
            let ledger = UUID(uuidString: words[2]), let server = Self.decoded(words[3]),
            let database = Self.decoded(words[4]), let name = Self.decoded(words[5]), let entries = Int64(words[6]),
            entries >= 0, let hash = Digest.bytes(words[7]), let at = try? Timestamp.fromPostgres(words[8]),
            at.isFinite, let note = Self.decoded(words[9]), words[10].utf8.count == 16,
            let code = Digest.bytes(String(words[11].unicodeScalars.prefix(64).map(Character.init)))
        else { return nil }
        self.kind = kind
        identity = AuditIdentity(ledger: ledger, server: server, database: database)
        self.name = name
        self.entries = entries
        self.hash = hash
        self.at = at
        self.note = note
        keyID = words[10]
        self.code = code
    }

    /// The line to store.
    public var text: String {
        Self.text(kind, identity, name, entries, hash, at, note, keyID) + " " + Digest.hex(code)
    }

    /// Whether the anchor was signed with this key and is unchanged.
    public func isGenuine(_ key: SigningKey) -> Bool {
        guard keyID == key.id else { return false }
        return key.isCode(code, of: Self.text(kind, identity, name, entries, hash, at, note, keyID).utf8)
    }

    // MARK: Text

    private static let words = 12

    private static func text(
        _ kind: Kind, _ identity: AuditIdentity, _ name: String, _ entries: Int64, _ hash: [UInt8], _ at: Timestamp,
        _ note: String, _ keyID: String
    ) -> String {
        [
            label, kind.rawValue, identity.ledger.uuidString.lowercased(), encoded(identity.server),
            encoded(identity.database), encoded(name), String(entries), Digest.hex(hash), at.rfc3339, encoded(note),
            keyID,
        ].joined(separator: " ")
    }

    /// Encodes a name as one word without spaces, quotes, slashes, dots or line ends. Letters, digits, `-` and `_` are
    /// unchanged. Every other byte becomes `%` and two hexadecimal digits (RFC 3986, section 2.1). An empty text
    /// becomes `%`.
    public static func encodedName(_ name: String) -> String { encoded(name) }

    private static func encoded(_ text: String) -> String {
        if text.isEmpty { return "%" }
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "_"):
                result.append(byte)
            default: result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static func decoded(_ word: String) -> String? { word == "%" ? "" : word.removingPercentEncoding }

    private static func firstRange(of label: String, in line: String) -> String.Index? {
        var rest = line.utf8[...]
        while let first = label.utf8.first, let start = rest.firstIndex(of: first) {
            if rest[start...].starts(with: label.utf8) { return start }
            rest = rest[rest.index(after: start)...]
        }
        return nil
    }

    // MARK: Thinning

    /// Returns the times of the anchors to keep: all of the last two days, then the newest of each day for 62 days, of
    /// each month for 3650 days, and of each year. The newest anchor is always kept. An anchor also proves all entries
    /// before it, so deleting an older anchor has only one effect: if a change is found, it is known less precisely
    /// when the change was made.
    public static func kept(_ times: [Timestamp], now: Timestamp = .now) -> Set<Timestamp> {
        var kept: Set<Timestamp> = []
        var newest = NewestOfPeriods()
        func isYounger(_ time: Timestamp, days: Int) -> Bool { time > now - .seconds(days * CivilDate.seconds) }
        for time in times.sorted(by: >) where time.isFinite {
            let period: CalendarPeriod =
                isYounger(time, days: 62) ? .day : isYounger(time, days: 3650) ? .month : .year
            if isYounger(time, days: 2) || newest.isFirst(time, of: period) { kept.insert(time) }
        }
        return kept
    }
}
