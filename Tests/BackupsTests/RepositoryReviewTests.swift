import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Backups
@testable import Ledger

/// What a repository leaves out, or has changed, is told.
@Suite(.database, .timeLimit(.minutes(5)))
struct RepositoryReviewTests {
    private static let place = "/repository"

    /// Three backups of one chain, as they are stored.
    private func chain(key: SigningKey? = nil) async throws -> [StoredManifest] {
        let model = try await Vault.manifest(of: TestDatabase.current.settings)
        var stored: [StoredManifest] = []
        for day in 1...3 {
            let id = "2026010\(day)T000000Z-1000000\(day)"
            var object = try #require(
                JSONSerialization.jsonObject(with: JSONEncoder().encode(model)) as? [String: Any])
            object["id"] = id
            object["startedAt"] = "2026-01-0\(day)T00:00:00Z"
            object["estate"] = String(repeating: "a", count: 64)
            var manifest = try JSONDecoder().decode(
                Manifest.self, from: JSONSerialization.data(withJSONObject: object))
            manifest.previous = try stored.last?.link
            stored.append(try Self.stored(manifest, key))
        }
        return stored
    }

    private static func stored(_ manifest: Manifest, _ key: SigningKey? = nil) throws -> StoredManifest {
        try Manifest.decode(
            manifest.encoded(signedBy: key), object: "\(manifest.database)/\(manifest.id)/\(Manifest.name)")
    }

    private func record(_ stored: StoredManifest, repository: String? = "r", isExcused: Bool = false) throws
        -> BackupRecord
    {
        BackupRecord(
            id: stored.manifest.id, place: Self.place, bytes: 1, startedAt: stored.manifest.began,
            finishedAt: stored.manifest.began, isFound: false, provenAt: nil, restoreSeconds: nil, differences: nil,
            mismatchedTables: nil, testedAt: nil, repository: repository, manifests: [stored.sha256],
            excusedAt: isExcused ? stored.manifest.began : nil, missedAt: nil)
    }

    private func review(
        _ manifests: [StoredManifest], mark: String? = "r", damaged: [String: BackupError] = [:],
        records: [BackupRecord]? = nil, estate: String? = nil, keys: [SigningKey] = [], now: Timestamp = .now
    ) -> (review: RepositoryReview, newer: String?) {
        var evidence = RepositoryReview.Evidence()
        evidence.now = now
        (evidence.records, evidence.estate, evidence.keys) = (records, estate, keys)
        let contents = RepositoryReview.Contents(
            place: Self.place, mark: mark, manifests: manifests, damaged: damaged)
        let one = RepositoryReview.Reviewed(contents, against: evidence)
        return (
            one.review, RepositoryReview.newer(than: one.review.sound.last?.manifest, in: [one], evidence)
        )
    }

    @Test func `a whole repository has no problem`() async throws {
        let chain = try await chain()
        let (whole, newer) = review(chain, records: try chain.map { try record($0) })
        #expect(whole.problems.isEmpty && newer == nil && whole.sound == chain)
        // Retention removes backups also from the middle, and says so in the ledger before.
        let (pruned, none) = review(
            [chain[0], chain[2]], records: try chain.enumerated().map { try record($1, isExcused: $0 == 1) })
        #expect(pruned.problems.isEmpty && none == nil)
        // Nothing is known without the ledger.
        #expect(review(chain).review.problems.isEmpty)
    }

    @Test func `what the ledger records and the repository has not is missing`() async throws {
        let chain = try await chain()
        let records = try chain.map { try record($0) }
        let (last, newer) = (chain[2].manifest, chain[2].manifest.id)
        let rolledBack = review(Array(chain.prefix(2)), records: records)
        #expect(rolledBack.review.problems == [.missing(id: last.id, finishedAt: last.began.rfc3339)])
        #expect(rolledBack.newer == newer)
        // An older one that is gone does not stand in the way of the newest.
        let middle = review([chain[0], chain[2]], records: records)
        #expect(middle.review.problems.map(\.id) == [chain[1].manifest.id] && middle.newer == nil)
        let emptied = review([], records: records)
        #expect(emptied.review.problems == [.emptied(backups: 3)] && emptied.newer == newer)
        let exchanged = review(chain, mark: "other", records: records)
        #expect(exchanged.review.problems == [.exchanged(expected: "r", found: "other")])
        #expect(review(chain, mark: nil, records: []).review.problems == [.unmarked])
    }

    @Test func `a manifest that was edited and hashed again is not used`() async throws {
        let chain = try await chain()
        let records = try chain.map { try record($0) }
        var changed = chain[2].manifest
        changed.finishedAt = "2026-01-03T01:00:00Z"
        let edited = review([chain[0], chain[1], try Self.stored(changed)], records: records)
        #expect(edited.review.problems == [.edited(id: changed.id)] && edited.newer == changed.id)
        #expect(edited.review.sound == Array(chain.prefix(2)))
        // Without the ledger, the next backup tells of it.
        changed = chain[1].manifest
        changed.finishedAt = "2026-01-02T01:00:00Z"
        let broken = review([chain[0], try Self.stored(changed), chain[2]])
        #expect(broken.review.problems == [.broken(id: changed.id, next: chain[2].manifest.id)])
        // What nobody vouches for discredits none of the backups that the ledger records.
        var later = chain[2].manifest
        later.previous = try Self.stored(changed).link
        let slandered = review(
            [chain[0], chain[1], try Self.stored(later)], records: [try record(chain[0]), try record(chain[1])],
            estate: later.estate)
        #expect(slandered.review.problems.isEmpty && slandered.review.usable == Array(chain.prefix(2)))
        // Every other field counts, also one that this version does not know.
        let whole = try #require(
            JSONSerialization.jsonObject(with: JSONEncoder().encode(chain[1].manifest)) as? [String: Any])
        #expect(whole.count > 20)
        let link = try chain[1].link
        for field in Set(whole.keys).union(["unheard of"]).subtracting(["recipients"]) {
            var edited = whole
            edited[field] = edited[field] is String || edited[field] == nil ? "other" : ["other"]
            let body = Array(try JSONSerialization.data(withJSONObject: edited))
            #expect(try ManifestContent.digest(of: body) != link.content, "\(field)")
        }
        // A change of keys is no such change.
        changed = chain[1].manifest
        changed.recipients = ["age1other"]
        changed.parts = changed.parts.map { $0.stored(as: $0.object + ".1", bytes: $0.bytes + 1, sha256: $0.sha256) }
        #expect(review([chain[0], try Self.stored(changed), chain[2]]).review.problems.isEmpty)
        let damaged = review(
            Array(chain.prefix(2)), damaged: [chain[2].manifest.id: .badManifest(object: "x", reason: "y")],
            records: records)
        #expect(damaged.newer == chain[2].manifest.id)
    }

    /// Otherwise one file more would end the comparison with the ledger.
    @Test func `without its mark nothing in a repository is used, and it is compared all the same`() async throws {
        let chain = try await chain()
        let records = try chain.map { try record($0) }
        var changed = chain[2].manifest
        changed.finishedAt = "2026-01-03T01:00:00Z"
        for mark in [nil, "other"] {
            let (found, newer) = review([chain[0], chain[1], try Self.stored(changed)], mark: mark, records: records)
            #expect(found.problems.count == 2 && found.problems.contains(.edited(id: changed.id)), "\(found.problems)")
            #expect(found.sound.isEmpty && newer == changed.id)
        }
    }

    /// A link to the folder, for example.
    @Test func `a repository is compared with its records under any address`() async throws {
        let chain = try await chain()
        let records = try chain.map { try record($0) }
        var evidence = RepositoryReview.Evidence()
        evidence.records = records
        let moved = RepositoryReview.Contents(place: "/link", mark: "r", manifests: Array(chain.prefix(2)))
        let found = RepositoryReview(of: moved, against: evidence)
        #expect(found.problems.map(\.id) == [chain[2].manifest.id])
    }

    @Test func `a name that belongs to another database is told`() async throws {
        var evidence = RepositoryReview.Evidence()
        (evidence.records, evidence.estate) = ([], "a")
        func problems(_ owner: String?) -> [RepositoryProblem] {
            var contents = RepositoryReview.Contents(place: Self.place, mark: "r", manifests: [])
            contents.owner = owner.map { RepositoryOwner(estate: $0, source: "other", since: "2026-01-01") }
            return RepositoryReview(of: contents, against: evidence).problems
        }
        #expect(problems(nil) == [] && problems("a") == [])
        #expect(problems("b").map(\.id) == [nil] && "\(problems("b"))".contains("other"))
    }

    @Test func `a backup of the future is not used`() async throws {
        let chain = try await chain()
        let last = chain[2].manifest
        let early = review(chain, now: last.began - .seconds(7200))
        #expect(early.review.problems == [.future(id: last.id, startedAt: last.startedAt)])
        #expect(early.review.sound == Array(chain.prefix(2)) && early.newer == last.id)
        // Clocks differ a little.
        #expect(review(chain, now: last.began - .seconds(1800)).review.problems.isEmpty)
    }

    @Test func `where no ledger tells whose the backups are, one of another database is refused`() async throws {
        let chain = try await chain()
        func moved(_ stored: StoredManifest, previous: Manifest.Link?) throws -> StoredManifest {
            var manifest = stored.manifest
            (manifest.estate, manifest.previous) = (String(repeating: "b", count: 64), previous)
            return try Self.stored(manifest)
        }
        let elsewhere = Manifest.Link(id: "20260102T000000Z-99999999", content: String(repeating: "0", count: 64))
        let intruder = try moved(chain[2], previous: elsewhere)
        let found = review([chain[0], chain[1], intruder])
        #expect(found.review.problems.map(\.id) == [intruder.manifest.id] && found.review.sound.count == 2)
        #expect(found.newer == intruder.manifest.id)
        // A database that has taken the backups over refers to the last one.
        let heir = try moved(chain[2], previous: try chain[1].link)
        #expect(review([chain[0], chain[1], heir]).review.problems.isEmpty)
        let next = try moved(chain[2], previous: nil)
        #expect(
            review([try moved(chain[0], previous: nil), try moved(chain[1], previous: nil), next]).review.problems == []
        )
    }

    /// Such as the content of an old backup under a new name.
    @Test func `a backup that nothing vouches for is told apart`() async throws {
        let chain = try await chain()
        let estate = String(repeating: "a", count: 64)
        let known = try chain.prefix(2).map { try record($0) }
        let id = chain[2].manifest.id
        #expect(review(chain, records: known, estate: estate).review.unrecorded == [id])
        // It was found in the repository, and not recorded by its maker.
        func found(isProven: Bool) throws -> BackupRecord {
            let one = try record(chain[2])
            return BackupRecord(
                id: one.id, place: one.place, bytes: 1, startedAt: one.startedAt, finishedAt: one.finishedAt,
                isFound: true, provenAt: isProven ? one.finishedAt : nil, restoreSeconds: nil, differences: nil,
                mismatchedTables: nil, testedAt: nil, repository: "r", manifests: one.manifests, excusedAt: nil,
                missedAt: nil)
        }
        #expect(review(chain, records: known + [try found(isProven: false)], estate: estate).review.unrecorded == [id])
        // A test compares a backup with its own manifest, so it vouches for nothing.
        #expect(
            review(chain, records: known + [try found(isProven: true)], estate: estate).review.unrecorded == [id])
        let key = try #require(SigningKey([UInt8](repeating: 1, count: 32)))
        let signed = try await self.chain(key: key)
        let (vouched, _) = review(signed, records: [], estate: estate, keys: [key])
        #expect(vouched.unrecorded.isEmpty && vouched.problems.isEmpty)
        // Without a ledger nothing is known.
        #expect(review(chain).review.unrecorded.isEmpty && review(chain, records: []).review.unrecorded.isEmpty)
    }

    @Test func `another database's backup is not used, unless the ledger records it`() async throws {
        let chain = try await chain()
        let own = String(repeating: "b", count: 64)
        let foreign = review(chain, records: [], estate: own)
        #expect(foreign.review.sound.isEmpty && foreign.review.problems.count == 3)
        let adopted = review(chain, records: try chain.map { try record($0) }, estate: own)
        #expect(adopted.review.problems.isEmpty)
    }

    @Test func `where keys are configured, only signed backups are used`() async throws {
        let key = try #require(SigningKey([UInt8](repeating: 1, count: 32)))
        let other = try #require(SigningKey([UInt8](repeating: 2, count: 32)))
        let signed = try await chain(key: key)
        #expect(review(signed, keys: [other, key]).review.problems.isEmpty)
        let (forged, newer) = review(signed, keys: [other])
        #expect(forged.problems.map(\.description).allSatisfy { $0.contains("signature") } && forged.sound.isEmpty)
        #expect(newer == signed[2].manifest.id)
        // The signature of one manifest is not valid for another one.
        let lines = try signed[1].manifest.encoded(signedBy: key).split(separator: UInt8(ascii: "\n"))
        let body = try signed[2].manifest.encoded().split(separator: UInt8(ascii: "\n"))
        let moved = try Manifest.decode(
            Array((body + [lines[2]]).joined(separator: [UInt8(ascii: "\n")])) + [UInt8(ascii: "\n")],
            object: "main/\(signed[2].manifest.id)/\(Manifest.name)")
        #expect(review([signed[0], signed[1], moved], keys: [key]).review.problems == [.forged(id: moved.manifest.id)])
        let unsigned = try signed.map { try Self.stored($0.manifest) }
        #expect(review(unsigned, keys: [key]).review.problems.count == 3)
    }
}
