import Foundation
import TestSupport
import Testing

/// The table of rooms in CONTRIBUTING.md is what Package.swift says.
@Suite struct HouseTests {
    private func text(_ file: String) throws -> String {
        try String(contentsOfFile: "\(ShippedFixture.repository)/\(file)", encoding: .utf8)
    }

    /// Rooms by name, each with those that it may use.
    private func package() throws -> [String: Set<String>] {
        var rooms: [String: Set<String>] = [:]
        for match in try text("Package.swift").matches(of: /\s(room|feature)\(\s*("[^)]*")\s*\)/) {
            let names = match.2.matches(of: /"([A-Za-z0-9]+)"/).map { String($0.1) }
            guard let name = names.first else { continue }
            let isFeature = match.1 == "feature"
            rooms[isFeature ? "\(name)Feature" : name] = Set(names.dropFirst()).union(isFeature ? ["Kernel"] : [])
        }
        return rooms
    }

    private func table() throws -> [String: Set<String>] {
        var rooms: [String: Set<String>] = [:]
        for line in try text("CONTRIBUTING.md").split(separator: "\n") {
            guard let match = line.wholeMatch(of: /\| `([A-Za-z]+)` \|[^|]*\|([^|]*)\|/) else { continue }
            let uses = match.2.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
            rooms[String(match.1)] = Set(uses.filter { !$0.isEmpty })
        }
        return rooms
    }

    @Test func `every room is in the table, with what it uses`() throws {
        let (package, table) = (try package(), try table())
        #expect(package.count > 15)
        for (name, uses) in package {
            let told = try #require(table[name], "\(name) is not in CONTRIBUTING.md")
            #expect(told == uses, "\(name)")
        }
    }

    /// A feature uses the rooms below it and no other feature.
    @Test func `features do not use each other`() throws {
        for (name, uses) in try package() where name.hasSuffix("Feature") {
            #expect(uses.allSatisfy { !$0.hasSuffix("Feature") }, "\(name)")
        }
    }
}
