import Foundation
import TestSupport
import Testing

/// Compares the table of modules in CONTRIBUTING.md with Package.swift.
@Suite struct HouseTests {
    private func text(_ file: String) throws -> String {
        try String(contentsOfFile: "\(ShippedFixture.repository)/\(file)", encoding: .utf8)
    }

    /// The modules by name, each with the modules that it may import.
    private func package() throws -> [String: Set<String>] {
        var modules: [String: Set<String>] = [:]
        for match in try text("Package.swift").matches(of: /\s(module|feature)\(\s*("[^)]*")\s*\)/) {
            let names = match.2.matches(of: /"([A-Za-z0-9]+)"/).map { String($0.1) }
            guard let name = names.first else { continue }
            let isFeature = match.1 == "feature"
            modules[isFeature ? "\(name)Feature" : name] = Set(names.dropFirst()).union(isFeature ? ["Kernel"] : [])
        }
        return modules
    }

    private func table() throws -> [String: Set<String>] {
        var modules: [String: Set<String>] = [:]
        for line in try text("CONTRIBUTING.md").split(separator: "\n") {
            guard let match = line.wholeMatch(of: /\| `([A-Za-z]+)` \|[^|]*\|([^|]*)\|/) else { continue }
            let uses = match.2.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
            modules[String(match.1)] = Set(uses.filter { !$0.isEmpty })
        }
        return modules
    }

    @Test func `every module is in the table, with the modules that it imports`() throws {
        let (package, table) = (try package(), try table())
        #expect(package.count > 15)
        for (name, uses) in package {
            let listed = try #require(table[name], "\(name) is not in CONTRIBUTING.md")
            #expect(listed == uses, "\(name)")
        }
    }

    /// The compiler accepts imports that Package.swift does not declare, if another module has been built already.
    @Test func `every module imports what Package.swift declares, and nothing else`() throws {
        let package = try package()
        let bindings = try text("Package.swift").matches(of: /library\("(\w+)"/).map { String($0.1) }
        let known = Set(package.keys).union(bindings).union(["CSystem"])
        for (name, uses) in package {
            let isFeature = name.hasSuffix("Feature")
            let folder = "Sources/\(isFeature ? "Features/\(name.dropLast("Feature".count))" : name)"
            let files = try FileManager.default.subpathsOfDirectory(atPath: "\(ShippedFixture.repository)/\(folder)")
            let sources = try files.filter { $0.hasSuffix(".swift") }.map { try text("\(folder)/\($0)") }
            #expect(!sources.isEmpty, "\(folder)")
            let imports = sources.flatMap { source in
                source.split(separator: "\n").compactMap { $0.wholeMatch(of: /import (\w+)/).map { String($0.1) } }
            }
            #expect(Set(imports).intersection(known) == uses, "\(name)")
        }
    }

    /// A feature imports no other feature.
    @Test func `features do not use each other`() throws {
        for (name, uses) in try package() where name.hasSuffix("Feature") {
            #expect(uses.allSatisfy { !$0.hasSuffix("Feature") }, "\(name)")
        }
    }
}
