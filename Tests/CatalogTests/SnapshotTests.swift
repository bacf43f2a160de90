import Catalog
import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2)))
struct SnapshotTests {
    @Test(.database(Zoo.template)) func snapshotIsReadBackAsItWas() async throws {
        let catalog = try await Zoo.read(TestDatabase.current.settings)
        let text = SchemaSnapshot.text(of: catalog, notes: [("digest", "abc")])
        if let path = ProcessInfo.processInfo.environment["REEVE_ZOO_SNAPSHOT"] {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        }
        let (again, notes) = try SchemaSnapshot.parse(text, file: "zoo")
        #expect(notes == ["digest": "abc"])
        #expect(CatalogDiff().differences(expected: catalog, found: again) == [])
        #expect(again.sorted == catalog.sorted)
        #expect(again.sorted.map(\.dependencies) == catalog.sorted.map(\.dependencies))
        #expect(SchemaSnapshot.text(of: again, notes: [("digest", "abc")]) == text)
    }
}
