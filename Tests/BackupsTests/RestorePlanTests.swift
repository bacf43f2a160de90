import Foundation
import Postgres
import Testing

@testable import Backups

/// Which parts and entries of a backup are restored, and in which order.
@Suite struct RestorePlanTests {
    private func part(_ kind: Manifest.Part.Kind, _ name: String, _ tables: [String] = [], bytes: Int = 1)
        -> Manifest.Part
    {
        Manifest.Part(kind: kind, tables: tables).stored(as: "main/1/\(name)", bytes: bytes, sha256: "")
    }

    /// A manifest with its parts in no particular order.
    private func manifest() throws -> Manifest {
        let locale = #"{"encoding":"UTF8","collate":"C","ctype":"C","provider":"c"}"#
        func table(_ name: String) -> Manifest.Table {
            Manifest.Table(schema: "s", name: name, rows: 1, digest: "", definition: "")
        }
        return Manifest(
            format: Manifest.format, id: "1", database: "main", source: "d", reeve: "", server: 150_000, pgDump: "15",
            snapshot: "", wal: nil, startedAt: "", finishedAt: "", recipients: [], tables: [table("a"), table("b")],
            sequences: [], largeObjects: nil, extensions: [:], tablespaces: [], neededRoles: [],
            locale: try JSONDecoder().decode(DatabaseLocale.self, from: Data(locale.utf8)), databaseBytes: 1,
            catalog: "", settings: [], roles: [],
            parts: [
                part(.after, "after"), part(.catalog, "catalog"), part(.data, "small", ["s.a"], bytes: 10),
                part(.sequences, "sequences"), part(.data, "large", ["s.b"], bytes: 1000), part(.before, "before"),
                part(.largeObjects, "objects", bytes: 100), part(.roles, "roles"),
            ])
    }

    private let masking = MaskingRules(["s": ["a": ["x": .hash], "b": ["x": .null]], "t": ["a": ["x": .fake]]])

    /// A step in a few words.
    private func text(_ step: RestorePlan.Step) -> String {
        switch step {
        case .parts(let parts, let options, let jobs):
            let names = parts.map { String($0.object.split(separator: "/").last ?? "") }
            return ([names.joined(separator: ","), "x\(jobs)"] + options).joined(separator: " ")
        case .refuseUntrusted(let tables):
            return "refuse untrusted in \(tables?.map(\.path).sorted().joined(separator: ",") ?? "all")"
        case .lateConstraints(let part, let jobs): return "constraints of \(part.kind) x\(jobs)"
        case .suspendChecks: return "suspend checks"
        case .mask(let rules):
            return "mask \(rules.rules.map { "\($0.key).\($0.value.keys.sorted().joined())" }.sorted())"
        case .entries(.only(let types), let part, let jobs): return "only \(types.sorted()) of \(part.kind) x\(jobs)"
        case .entries(.allBut(let types), let part, let jobs):
            return "all but \(types.count) of \(part.kind) x\(jobs)"
        }
    }

    @Test func `everything is restored from definitions to event triggers`() throws {
        let manifest = try manifest()
        let plan = RestorePlan(.everything, of: manifest, jobs: 3, masking: masking)
        let steps = RestorePlan.definitions(of: manifest) + plan.contents + plan.last
        #expect(
            steps.map(text) == [
                "before x1", "refuse untrusted in all", "suspend checks", "large,objects,small x3", "sequences x1",
                "mask [\"s.ab\", \"t.a\"]", "all but 3 of after x3", "constraints of after x3",
                "only [\"EVENT TRIGGER\"] of after x3",
            ])
        #expect(RestorePlan.parts(of: steps).count == 8)
        #expect(RestorePlan(.everything, of: manifest, jobs: 0, masking: MaskingRules([:])).contents.count == 6)
    }

    @Test func `of tables the parts that hold them are read, in the same order`() throws {
        let manifest = try manifest()
        let tables: Set = [FetchedTable(schema: "s", name: "a")]
        let plan = RestorePlan(.tables(tables), of: manifest, jobs: 3, masking: masking)
        #expect(
            plan.contents.map(text) == [
                "refuse untrusted in s.a", "suspend checks", "small x3 --schema=s --table=a", "sequences x1",
                "mask [\"s.ab\", \"t.a\"]",
                "all but 9 of after x1",
            ])
        #expect(plan.last.isEmpty)
    }

    @Test func `entries are chosen by type`() throws {
        let contents = try TableOfContents(
            Array(
                "1; 2606 10 FK CONSTRAINT public a k o\n2; 1259 12 INDEX public i o\n3; 3466 11 EVENT TRIGGER - x o"
                    .utf8))
        #expect(RestorePlan.Entries.only(RestorePlan.lateConstraints).of(contents).entries.map(\.id) == [1])
        #expect(RestorePlan.Entries.allBut(["EVENT TRIGGER"]).of(contents).entries.map(\.id) == [1, 2])
    }
}
