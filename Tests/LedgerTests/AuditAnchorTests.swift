import Foundation
import Postgres
import Testing

@testable import Ledger

@Suite struct AuditAnchorTests {
    private let identity = AuditIdentity(ledger: UUID(), server: "7300000000000000001", database: "shop; 'x' %")
    private func key(_ byte: UInt8) throws -> SigningKey {
        try #require(SigningKey([UInt8](repeating: byte, count: 32)))
    }

    private func anchor(
        _ kind: AuditAnchor.Kind = .anchor, _ identity: AuditIdentity? = nil, name: String = "main",
        entries: Int64 = 7, at: Int64 = 1_800_000_000_000_001, key: SigningKey
    ) -> AuditAnchor {
        AuditAnchor(
            kind, of: identity ?? self.identity, name: name, entries: entries,
            hash: [UInt8](repeating: 0xAB, count: 32), at: Timestamp(microseconds: at),
            note: "who@host: it was \"restored\"\n", key: key)
    }

    @Test func `an anchor is read as it was written, also within the line of a log`() throws {
        let key = try key(1)
        let anchor = anchor(name: "ma in/..\u{0301}", key: key)
        #expect(AuditAnchor(anchor.text) == anchor)
        #expect(anchor.isGenuine(key))
        for line in [
            "{\"message\":\"x\",\"anchor\":\"\(anchor.text)\",\"key\":\"k\"}",
            "2026-01-01T00:00:00Z notice the audit chain is anchored anchor=\"\(anchor.text)\"",
        ] {
            let read = try #require(AuditAnchor(line))
            #expect(read == anchor && read.isGenuine(key))
        }
        #expect(!anchor.text.contains("\"") && !anchor.text.contains("\n"))
    }

    @Test func `no byte of an anchor can be changed unnoticed`() throws {
        let key = try key(1)
        let text = Array(anchor(key: key).text.utf8)
        var generator = SystemRandomNumberGenerator()
        for index in text.indices {
            var changed = text
            changed[index] = changed[index] == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
            let read = AuditAnchor(String(decoding: changed, as: UTF8.self))
            #expect(read?.isGenuine(key) != true, "byte \(index)")
        }
        for _ in 0..<2000 {
            let count = Int.random(in: 0...text.count, using: &generator)
            var torn = Array(text[..<count])
            if let place = torn.indices.randomElement() { torn[place] = UInt8.random(in: 0...255) }
            _ = AuditAnchor(String(decoding: torn, as: UTF8.self))
        }
        #expect(try !anchor(key: key).isGenuine(self.key(2)))
        #expect(SigningKey([1, 2, 3]) == nil)
    }

    @Test func `evidence tells valid, forged, unknown, foreign and remade apart`() throws {
        let key = try key(1)
        let valid = anchor(key: key)
        let forged = anchor(entries: 9, key: key).text.dropLast(4) + "0000"
        let unknown = anchor(entries: 8, key: try self.key(2))
        let remade = anchor(
            .anchor, AuditIdentity(ledger: UUID(), server: identity.server, database: identity.database), key: key)
        let foreign = anchor(.anchor, AuditIdentity(ledger: UUID(), server: "1", database: "x"), key: key)
        let other = anchor(
            .anchor, AuditIdentity(ledger: UUID(), server: identity.server, database: identity.database), name: "other",
            key: key)
        let lines = [
            valid.text, String(forged), unknown.text, remade.text, foreign.text, other.text, "garbage", valid.text,
        ]
        let evidence = AuditEvidence(lines, key: key, identity: identity, name: "main")
        #expect(evidence.valid == [valid] && evidence.unknown == [unknown] && evidence.remade == [remade])
        #expect(Set(evidence.foreign) == [foreign, other])
        #expect(evidence.forged.count == 2)
        let blind = AuditEvidence(lines, key: nil, identity: identity, name: "main")
        #expect(blind.valid.isEmpty && !blind.unknown.isEmpty)
        // Who has the key says that it is right so: what was anchored before is not compared any more.
        let accepted = anchor(.accepted, entries: 2, at: valid.at.microseconds + 5, key: key)
        let after = AuditEvidence(lines + [accepted.text], key: key, identity: identity, name: "main")
        #expect(after.valid == [accepted] && after.remade.isEmpty && after.acceptance == accepted)
        let false1 = anchor(.accepted, entries: 2, at: valid.at.microseconds + 5, key: try self.key(2))
        #expect(AuditEvidence(lines + [false1.text], key: key, identity: identity, name: "main").remade == [remade])
    }

    @Test func `thinning keeps the newest, and one of every period`() throws {
        let now = Timestamp(microseconds: 1_800_000_000_000_000)
        let hour: Int64 = 3_600_000_000
        let times = (0..<20_000).map { Timestamp(microseconds: now.microseconds - Int64($0) * hour) }
        let kept = AuditAnchor.kept(times, now: now)
        #expect(kept.count < 48 + 62 + 130)
        #expect(kept.contains(times[0]))
        let days = Set(times.map { $0.rfc3339.prefix(10) }.prefix(60 * 24))
        #expect(days.isSubset(of: Set(kept.map { $0.rfc3339.prefix(10) })))
        let months = Set(times.map { $0.rfc3339.prefix(7) })
        #expect(months == Set(kept.map { $0.rfc3339.prefix(7) }))
        // Thinned again and again as time passes, no month is lost.
        var left = Set(times)
        for step in 0..<50 {
            left = AuditAnchor.kept(
                Array(left), now: Timestamp(microseconds: now.microseconds + Int64(step) * 24 * hour))
        }
        #expect(months == Set(left.map { $0.rfc3339.prefix(7) }) && left.contains(times[0]))
        #expect(AuditAnchor.kept([Timestamp(microseconds: 5)], now: now).count == 1)
    }
}
