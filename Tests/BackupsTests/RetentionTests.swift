import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Backups

@Suite struct RetentionTests {
    /// 2026-06-15 is a Monday.
    private let now = Timestamp(microseconds: 1_781_481_600_000_000)

    private func candidates(_ days: [Int], proven: (Int) -> Bool = { _ in true }) -> [RetentionPolicy.Candidate] {
        days.map {
            RetentionPolicy.Candidate(
                id: "d\($0)", finishedAt: now - .seconds($0 * 86400), isProven: proven($0))
        }
    }

    private func kept(_ decisions: [RetentionPolicy.Decision]) -> Set<String> {
        Set(decisions.filter(\.stays).map(\.id))
    }

    @Test func daysWeeksAndMonthsKeepTheirNewest() {
        let decisions = RetentionPolicy().decide(candidates(Array(0..<400)), now: now)
        let kept = kept(decisions)
        #expect(Set((0..<7).map { "d\($0)" }).isSubset(of: kept))
        // Sundays of the weeks before, and the ends of months.
        #expect(kept.contains("d8") && kept.contains("d15") && kept.contains("d22"))
        #expect(kept.contains("d15") && kept.contains("d46"))
        #expect(kept.count <= 7 + 5 + 12)
        #expect(decisions.allSatisfy { !$0.reason.isEmpty })
    }

    @Test func withoutAProofNothingGoes() {
        let decisions = RetentionPolicy().decide(candidates(Array(0..<100)) { _ in false }, now: now)
        #expect(!decisions.contains { !$0.stays })
    }

    @Test func whatIsYoungStays() {
        var policy = RetentionPolicy()
        (policy.daily, policy.weekly, policy.monthly, policy.atLeast) = (0, 0, 0, 1)
        policy.within = .seconds(10 * 86400)
        let decisions = policy.decide(candidates(Array(0..<30)) { $0 % 3 == 0 }, now: now)
        #expect(kept(decisions) == Set((0..<10).map { "d\($0)" }))
        // What stays for its age does not keep the newest proven one from staying.
        let old = policy.decide(candidates([200, 300]), now: now)
        #expect(kept(old) == ["d200"])
    }

    @Test func anUnprovenBackupTakesNoDayFromAProvenOne() {
        var policy = RetentionPolicy()
        (policy.daily, policy.weekly, policy.monthly, policy.atLeast) = (3, 0, 0, 1)
        var all: [RetentionPolicy.Candidate] = []
        for back in 0...2 {
            let noon = now - .seconds((back + 1) * 86400 - 12 * 3600)
            all.append(.init(id: "proven \(back)", finishedAt: noon, isProven: true))
            all.append(.init(id: "unproven \(back)", finishedAt: noon - .seconds(-6 * 3600), isProven: false))
        }
        // That of the last evening is newer than the newest proven one.
        #expect(kept(policy.decide(all, now: now)) == ["proven 0", "proven 1", "proven 2", "unproven 0"])
    }

    @Test func theNewestProvenAlwaysStaysAndUnprovenPushNothingOut() {
        for seed in 0..<300 {
            var policy = RetentionPolicy()
            policy.daily = seed % 4
            policy.weekly = seed % 3
            policy.monthly = seed % 2
            policy.atLeast = 1 + seed % 3
            let days = Set((0..<40).map { _ in Int.random(in: 0..<500) })
            let proven = Set(days.filter { _ in Bool.random() })
            let all = candidates(Array(days)) { proven.contains($0) }
            let decisions = policy.decide(all, now: now)
            #expect(decisions.count == all.count)
            let kept = kept(decisions)
            if let newest = proven.min() {
                #expect(kept.contains("d\(newest)"))
                #expect(days.filter { $0 < newest }.allSatisfy { kept.contains("d\($0)") })
            }
            // Without those that were never proven, the proven ones that stay are no others.
            let alone = policy.decide(all.filter(\.isProven), now: now)
            #expect(kept.intersection(proven.map { "d\($0)" }).isSubset(of: self.kept(alone)))
            // And those that stay for a day, a week or a month stay also beside the unproven ones.
            let forPeriods = alone.filter { $0.stays && !$0.reason.hasPrefix("one of the newest") }.map(\.id)
            #expect(kept.isSuperset(of: forPeriods), "\(seed)")
        }
    }

    @Test(.database) func partsThatOthersNeedStay() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1)")
        let vault = try await Vault()
        let first = try await vault.maker(database.settings).make().manifest
        let second = try await vault.maker(database.settings).make().manifest
        #expect(second.ownBytes < second.bytes)
        let freed = try await vault.remove([first.id], on: database.settings)
        #expect(freed > 0 && freed < first.bytes)
        #expect(try await vault.repository.manifests(of: "main").map(\.id) == [second.id])
        let verification = try await vault.repository.verify([second], of: "main")
        #expect(verification.problems.isEmpty && verification.orphans.isEmpty)
        _ = try await vault.remove([second.id], on: database.settings)
        #expect(try await vault.objects.isEmpty)
    }
}
